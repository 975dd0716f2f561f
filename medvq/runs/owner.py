"""Exclusive write access to a run folder.

Two terminals may run the same study, and processes of a requeued SLURM job may outlive their job. Therefore one
attempt at a time owns a run. Every append and every rename takes the lock of the `owner` file and checks that the file
still holds the token of the attempt. A SLURM job claims a run under a term, which orders the starts of SLURM jobs: a
later term takes the run over at once, and an earlier term never gets it back.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from medvq.errors import MedvqError
from medvq.runs.heartbeat import is_alive, send_heartbeats
from medvq.runs.process import Process

PATIENCE = 30.0
"""Seconds after which a process that still holds the lock is considered hung."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One start of one SLURM job."""

    job: str
    """SLURM's id of the job, which does not change when the job is requeued."""
    restart: int
    """How often the job was requeued before."""
    submission: int = 0
    """Number of the submission that sent the job, counted from 1; 0 for a job that was submitted by hand."""

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Term | None:
        """Return the term of this process; None outside SLURM jobs."""
        job = environment.get("SLURM_JOB_ID")
        if job is None or "SLURMD_NODENAME" not in environment:
            return None
        restart = int(environment.get("SLURM_RESTART_COUNT") or 0)
        return cls(job=job, restart=restart, submission=int(environment.get("MEDVQ_SUBMISSION") or 0))

    def after(self, other: Term) -> bool:
        """Return whether this term is later than the other one; False if the two jobs have no known order."""
        if self.job == other.job:
            return self.restart > other.restart
        return 0 < other.submission < self.submission


class LostOwnershipError(MedvqError):
    """Another attempt has taken the run over, and this attempt may no longer write."""


class HangingError(MedvqError):
    """A process holds the lock of a run for too long."""


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """The right of one attempt to write into a run folder. It is plain data, which can be sent to the workers."""

    path: Path
    """The `owner` file."""
    token: str
    """Random token that identifies this right in the file."""
    attempt: int
    """Number of the attempt, counted from 1."""

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock while the block makes one append or rename.

        Raises:
            LostOwnershipError: another attempt owns the run now.
        """
        with _locked(self.path) as f:
            record = _record(f)
            if record.get("token") != self.token:
                raise LostOwnershipError(
                    f"attempt {record.get('attempt')} has taken this run over; attempt {self.attempt} stops",
                    where=str(self.path.parent),
                )
            yield

    @contextlib.contextmanager
    def send_heartbeats(self) -> Iterator[None]:
        """Send heartbeats to other machines from a thread while the block runs."""

        def beat() -> None:
            with contextlib.suppress(OSError, LostOwnershipError), self.writing():
                os.utime(self.path)

        with send_heartbeats(beat):
            yield

    def release(self) -> None:
        """Give the run up; do nothing if another attempt has taken it over."""
        with contextlib.suppress(HangingError), _locked(self.path, PATIENCE) as f:
            record = _record(f)
            if record.get("token") == self.token:
                _write(f, {k: record[k] for k in ("attempt", "term") if k in record})


@dataclass(frozen=True, kw_only=True)
class Busy:
    """The owner of a run that this process cannot claim: a live process, or a later term."""

    host: str
    """Machine of the owner."""
    pid: int
    """Process id of the owner; 0 if only its term is known."""
    term: Term | None = None
    """Term of the owner; None outside SLURM jobs."""

    def yields_to(self, term: Term | None) -> bool:
        """Return whether a process of `term` may take the run over nevertheless."""
        return term is not None and self.term is not None and term.after(self.term)


def claim(
    path: Path, holder: Process, term: Term | None = None, *, look_back: bool = False, known: int = 0
) -> Ownership | Busy:
    """Claim a run, unless another live process or a later term owns it.

    If a process of an earlier term hangs while it holds the lock, a later term breaks the lock. When the hung process
    resumes, it may still finish this one append.

    Args:
        path: the `owner` file of the run.
        holder: the process that shall own the run.
        term: the term of this process; None outside SLURM jobs.
        look_back: claim the run only to write about its last attempt, whose number is kept.
        known: highest attempt number found elsewhere, in case the `owner` file was lost.

    Returns:
        The right to write, or the owner that has it.
    """
    while True:
        try:
            with _locked(path, PATIENCE) as f:
                return _claim(path, f, holder, term, look_back=look_back, known=known)
        except HangingError:
            record = _read(path)
            last = _term(record)
            if term and last and term.after(last):
                _break_lock(path, record)
            elif other := _live_holder(record, path, _stamp):
                return Busy(host=other.host, pid=other.pid, term=last)


def _claim(
    path: Path, f: IO[bytes], holder: Process, term: Term | None, *, look_back: bool, known: int
) -> Ownership | Busy:
    record = _record(f)
    last = _term(record)
    if term and last and last.after(term):
        return Busy(host=str(record.get("holder", {}).get("host", "")), pid=0, term=last)
    other = _live_holder(record, path, _stamp)
    busy = Busy(host=other.host, pid=other.pid, term=last) if other and other != holder else None
    if busy and not busy.yields_to(term):
        return busy
    attempt = max(int(record.get("attempt", 0)), known) + (not look_back)
    mine = Ownership(path=path, token=secrets.token_hex(8), attempt=attempt)
    kept = term or last
    record = {"attempt": mine.attempt, "token": mine.token, "holder": holder.record()}
    _write(f, {**record, "term": asdict(kept)} if kept else record)
    return mine


def holder_of(path: Path) -> Busy | None:
    """Return the live process that owns the run; None if there is none."""
    record = _read(path)
    other = _live_holder(record, path)
    return Busy(host=other.host, pid=other.pid, term=_term(record)) if other else None


def _term(record: dict[str, Any]) -> Term | None:
    return Term(**record["term"]) if record.get("term") else None


def _live_holder(
    record: dict[str, Any], path: Path, now: Callable[[Path], float] = lambda _: time.time()
) -> Process | None:
    if "holder" not in record:
        return None
    process = Process.of(record["holder"])
    return process if is_alive(process, path, now) else None


def _stamp(folder: Path) -> float:
    """Return the time of the clock that stamps files in a folder, in seconds since 1970.

    On a network file system it is not the clock of this machine.
    """
    beside = folder / f".now-{secrets.token_hex(4)}"
    beside.touch()
    now = beside.stat().st_mtime
    beside.unlink(missing_ok=True)
    return now


@contextlib.contextmanager
def _locked(path: Path, patience: float | None = None) -> Iterator[IO[bytes]]:
    """Open and lock the owner file. It is written in place, because a rename would leave the lock on the old file.

    Raises:
        HangingError: another process holds the lock for longer than `patience` seconds.
    """
    end = None if patience is None else time.monotonic() + patience
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as f:
            _lock(f, path, end)
            if _is(f, path):
                yield f
                return


def _lock(f: IO[bytes], path: Path, end: float | None) -> None:
    while True:
        try:
            fcntl.flock(f, fcntl.LOCK_EX if end is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            if end is not None and time.monotonic() > end:
                raise HangingError("another process holds the lock and seems to hang", where=str(path)) from e
            time.sleep(0.05)
        except OSError:
            return  # the file system has no locks; the token is still checked
        else:
            return


def _is(f: IO[bytes], path: Path) -> bool:
    """Return whether the open file is still the one at `path`; after a lock was broken it is not."""
    try:
        return os.path.samestat(os.fstat(f.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _break_lock(path: Path, record: dict[str, Any]) -> None:
    """Replace the file that a hung process has locked by a new one with the same content."""
    beside = path.with_name(f".owner-{secrets.token_hex(4)}")
    beside.write_text(json.dumps(record) + "\n")
    os.replace(beside, path)


def _read(path: Path) -> dict[str, Any]:
    """Read the file at `path` without the lock."""
    try:
        with open(path, "rb") as f:
            return _record(f)
    except OSError:
        return {}


def _record(f: IO[bytes]) -> dict[str, Any]:
    """Read an open file; an incomplete record has no owner."""
    f.seek(0)
    try:
        record = json.loads(f.read())
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _write(f: IO[bytes], record: dict[str, Any]) -> None:
    text = json.dumps(record).encode()
    f.seek(0)
    f.write(text + b"\n")
    f.truncate()
    f.flush()
    os.fsync(f.fileno())
