"""Who may write into a run folder.

Two terminals may run the same study, and the old processes of a requeued SLURM job may live on. A run is claimed by
one attempt at a time; every append and rename holds the lock of the `owner` file and first reads its own token there.
A SLURM job claims under a term: the later term takes the run over at once, the earlier one never gets it back.
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
from medvq.runs.heartbeat import beating, lives
from medvq.runs.process import Process

PATIENCE = 30.0
"""Seconds that an append or a rename may take before who holds the lock for it counts as hanging."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """Which start of which SLURM job works on a run."""

    job: str
    """SLURM's id of the job; it stays the same when the job is requeued."""
    restart: int
    """How often it was requeued before."""
    submission: int = 0
    """Number of the `submit` that sent it, from 1; 0 where it was sent by hand."""

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Term | None:
        """The term of this process; None outside SLURM jobs."""
        job = environment.get("SLURM_JOB_ID")
        if job is None or "SLURMD_NODENAME" not in environment:
            return None
        restart = int(environment.get("SLURM_RESTART_COUNT") or 0)
        return cls(job=job, restart=restart, submission=int(environment.get("MEDVQ_SUBMISSION") or 0))

    def after(self, other: Term) -> bool:
        """Whether this term follows the other one. Terms of jobs that nothing orders follow neither way."""
        if self.job == other.job:
            return self.restart > other.restart
        return 0 < other.submission < self.submission


class LostOwnershipError(MedvqError):
    """Another attempt has taken the run over; nothing may be written any more."""


class HangingError(MedvqError):
    """A process holds a run's lock and does not get on."""


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """The right of one attempt to write into a run folder. Plain data: it travels to the workers."""

    path: Path
    """The `owner` file."""
    token: str
    attempt: int
    """Counts from 1."""

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the run while one append or rename is made.

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
    def beating(self) -> Iterator[None]:
        """Give signs of life to other machines, from a thread, while the block runs."""

        def beat() -> None:
            with contextlib.suppress(OSError, LostOwnershipError), self.writing():
                os.utime(self.path)

        with beating(beat):
            yield

    def release(self) -> None:
        """Give the run up; does nothing where it was taken over."""
        with contextlib.suppress(HangingError), _locked(self.path, PATIENCE) as f:
            record = _record(f)
            if record.get("token") == self.token:
                _write(f, {k: record[k] for k in ("attempt", "term") if k in record})


@dataclass(frozen=True, kw_only=True)
class Busy:
    """The run belongs to a live process, or to a later term."""

    host: str
    pid: int
    term: Term | None = None

    def yields_to(self, term: Term | None) -> bool:
        """Whether a process of `term` may take the run over all the same."""
        return term is not None and self.term is not None and term.after(self.term)


def claim(
    path: Path, holder: Process, term: Term | None = None, *, look_back: bool = False, known: int = 0
) -> Ownership | Busy:
    """Take the run whose `owner` file is `path` for `holder`, unless another live process or a later term has it.

    `known` is the highest attempt that is written down elsewhere, should the file have been lost. With `look_back` only
    to write about the last attempt: it keeps its number. An earlier term that hangs in the middle of an append does not
    keep a later one out: at most, that one append follows when it comes to itself.
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
    """The live process that owns the run, if any."""
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
    return process if lives(process, path, now) else None


def _stamp(folder: Path) -> float:
    """The time by the clock that stamps files in a folder, which may not be this machine's: seconds since the epoch."""
    beside = folder / f".now-{secrets.token_hex(4)}"
    beside.touch()
    now = beside.stat().st_mtime
    beside.unlink(missing_ok=True)
    return now


@contextlib.contextmanager
def _locked(path: Path, patience: float | None = None) -> Iterator[IO[bytes]]:
    """The owner file, open and locked. It is written in place: a rename would leave the lock on the old file.

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
                raise HangingError("another process holds the lock and does not get on", where=str(path)) from e
            time.sleep(0.05)
        except OSError:
            return  # a file system without locks still has the token check
        else:
            return


def _is(f: IO[bytes], path: Path) -> bool:
    """Whether the open file is still the one at `path`: a lock that was broken is on another."""
    try:
        return os.path.samestat(os.fstat(f.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _break_lock(path: Path, record: dict[str, Any]) -> None:
    """Put a new file in the place of one that a hanging process has locked."""
    beside = path.with_name(f".owner-{secrets.token_hex(4)}")
    beside.write_text(json.dumps(record) + "\n")
    os.replace(beside, path)


def _read(path: Path) -> dict[str, Any]:
    """What the file at `path` holds, without the lock."""
    try:
        with open(path, "rb") as f:
            return _record(f)
    except OSError:
        return {}


def _record(f: IO[bytes]) -> dict[str, Any]:
    """What the file holds; a torn one belongs to nobody."""
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
