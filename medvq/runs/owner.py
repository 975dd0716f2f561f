"""Who may write into a run folder.

Two terminals may run the same study, and the old processes of a requeued SLURM job may live on. A run is claimed by
one attempt at a time; every append and rename holds the lock of the `owner` file and first reads its own token there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medvq.config.errors import MedvqError
from medvq.runs.process import Process

SILENT_AFTER = 120.0
"""Seconds without a sign of life after which an owner on another machine counts as gone."""


class LostOwnershipError(MedvqError):
    """Another attempt has taken the run over; nothing may be written any more."""


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

    def beat(self) -> None:
        """Give a sign of life to other machines."""
        with contextlib.suppress(OSError, LostOwnershipError), self.writing():
            os.utime(self.path)

    def release(self) -> None:
        """Give the run up; does nothing where it was taken over."""
        with contextlib.suppress(LostOwnershipError), _locked(self.path) as f:
            record = _record(f)
            if record.get("token") == self.token:
                _write(f, {"attempt": self.attempt})


@dataclass(frozen=True, kw_only=True)
class Busy:
    """The run belongs to a live process."""

    host: str
    pid: int


def claim(path: Path, holder: Process) -> Ownership | Busy:
    """Take the run whose `owner` file is `path` for `holder`, unless another live process has it."""
    with _locked(path) as f:
        record = _record(f)
        other = _live_holder(record, path)
        if other and other != holder:
            return Busy(host=other.host, pid=other.pid)
        mine = Ownership(path=path, token=secrets.token_hex(8), attempt=int(record.get("attempt", 0)) + 1)
        _write(f, {"attempt": mine.attempt, "token": mine.token, "holder": holder.record()})
        return mine


def holder_of(path: Path) -> Busy | None:
    """The live process that owns the run, if any."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    other = _live_holder(record, path)
    return Busy(host=other.host, pid=other.pid) if other else None


def _live_holder(record: dict[str, Any], path: Path) -> Process | None:
    if "holder" not in record:
        return None
    process = Process.of(record["holder"])
    alive = process.alive()
    if alive is None:
        alive = time.time() - path.stat().st_mtime < SILENT_AFTER
    return process if alive else None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """The owner file, open and locked. It is written in place: a rename would leave the lock on the old file."""
    f = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    with f:
        # A file system without locks still has the token check.
        with contextlib.suppress(OSError):
            fcntl.flock(f, fcntl.LOCK_EX)
        yield f


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
