"""The hidden folder beside DEST in which a dataset is made, and the rename that publishes it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medvq.errors import MedvqError, UsageError

PATIENCE = 5.0
"""Seconds to wait for the lock: the workers of a killed packing need a moment to end."""
JOBS = "jobs.json"
"""Record of submitted jobs, in the folder `jobs`."""


class Workspace:
    """The folder `.NAME.packing` beside DEST, locked by one process.

    What an interrupted packing left in it is reused.
    """

    def __init__(self, dest: Path) -> None:
        self.dest = Path(os.path.abspath(dest))
        self.folder = self.dest.parent / f".{self.dest.name}.packing"
        self.parts, self.records, self.out = (self.folder / n for n in ("parts", "records", "out"))
        self.arrays = self.folder / "arrays"
        self.log = self.parts / "examined.jsonl"
        """Results about images, one line per part."""
        self.jobs = self.folder / "jobs"
        """What the jobs of a cluster share that pack together, if there are any."""
        self._lock: int | None = None
        self.locked = False
        """Whether this process holds the lock."""
        self._opened = False
        self._made: list[Path] = []

    @property
    def _folders(self) -> tuple[Path, ...]:
        return self.parts, self.records, self.out, self.arrays, self.jobs

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint that the folder was opened for; None if it was not opened."""
        try:
            return (self.folder / "fingerprint").read_text()
        except FileNotFoundError:
            return None

    @property
    def logs(self) -> list[Path]:
        """All logs of examined parts: that of a packing on one machine, and that of each job of a cluster."""
        return sorted(self.parts.glob("examined*.jsonl"))

    def refuse_jobs(self) -> None:
        """Raise MedvqError if jobs of a cluster were submitted to pack to the same DEST."""
        if (self.jobs / JOBS).exists():
            raise MedvqError(
                "jobs of a cluster pack to this folder",
                where=str(self.dest),
                hint="`medvq shard` with --profile tells how far they are",
            )

    def claim(self) -> None:
        """Create the folder and its parents, and lock it.

        Raises:
            OSError: the folder cannot be created.
            MedvqError: another process packs to the same DEST.
        """
        while True:
            for parent in [*reversed(self.folder.parent.parents), self.folder.parent]:
                if not parent.exists():
                    with suppress(FileExistsError):  # another process made it just now
                        parent.mkdir()
                        self._made.append(parent)
            self.folder.mkdir(exist_ok=True)
            if self.lock():
                return

    def open(self, fingerprint: str) -> None:
        """Empty the claimed folder unless it was opened for the same `fingerprint` before.

        Raises:
            OSError: the folder cannot be written.
        """
        self._opened = True
        if self.fingerprint != fingerprint:
            for folder in self._folders:
                shutil.rmtree(folder, ignore_errors=True)
            (self.folder / "fingerprint").write_text(fingerprint)
        for folder in self._folders:
            folder.mkdir(exist_ok=True)
            for torn in folder.glob("*.tmp"):
                torn.unlink()

    def lock(self) -> bool:
        """Lock the folder; return False if it does not exist, or was removed while this process waited.

        Raises:
            MedvqError: another process packs to the same DEST.
        """
        path = self.folder / "lock"
        try:
            fd = self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            return False
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as e:
                if e.errno not in (errno.EAGAIN, errno.EACCES):
                    break  # a file system without locks
                if time.monotonic() > until:
                    raise MedvqError("another process is packing to this folder", where=str(self.dest)) from e
                time.sleep(0.05)
        with suppress(FileNotFoundError):
            self.locked = os.path.samestat(os.fstat(fd), os.stat(path))
        if not self.locked:
            self.release()
        return self.locked

    def publish(self) -> None:
        """Flush the finished dataset to disk and rename it to DEST."""
        for path in (self.out / "manifest.json", self.out / "index.parquet", self.out):
            sync(path)
        os.rename(self.out, self.dest)
        sync(self.dest.parent)

    def abandon(self) -> None:
        """Remove everything that this packing made.

        The folder of an earlier packing stays if this one did not open it.
        """
        if self._opened or not (self.folder / "fingerprint").exists():
            self.remove()
        self.release()
        for parent in reversed(self._made):
            try:
                parent.rmdir()
            except OSError:
                return

    def remove(self) -> None:
        """Remove the folder if this process holds the lock."""
        if self.locked:
            # The lock file is removed last: nobody can lock the folder while its content is being removed.
            for folder in self._folders:
                shutil.rmtree(folder, ignore_errors=True)
            for name in ("fingerprint", "lock"):
                with suppress(OSError):
                    (self.folder / name).unlink()
        self.release()
        with suppress(OSError):  # it is not empty: it belongs to another process
            self.folder.rmdir()

    def release(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock, self.locked = None, False


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def refuse_other(dest: Path) -> None:
    """Raise UsageError unless DEST does not exist, is an empty folder, or is a dataset."""
    if not os.path.lexists(dest):
        return
    if not dest.is_dir():
        raise UsageError("DEST is not a folder", where=str(dest), hint="give the name of a new folder")
    if any(dest.iterdir()) and not (dest / "manifest.json").is_file():
        raise UsageError(
            "DEST holds something that is no dataset", where=str(dest), hint="give the name of a new folder"
        )


@contextmanager
def disk_errors(dest: Path) -> Iterator[None]:
    """Convert an OSError of writing to a MedvqError that names DEST."""
    try:
        yield
    except OSError as e:
        what = {
            errno.ENOSPC: "no space is left on the disk",
            errno.EDQUOT: "the disk quota is used up",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: "the folder cannot be written",
            errno.EPERM: "the folder cannot be written",
            errno.EFBIG: "the file would be larger than is allowed here",
        }.get(e.errno or 0, f"cannot write: {e.strerror or e}")
        raise MedvqError(
            f"{what}; nothing was published",
            where=str(dest),
            hint="free some space or choose another DEST, then give the same command again",
        ) from e
