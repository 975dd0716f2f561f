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
"""Seconds to wait for a lock: the workers of a killed packing need a moment to notice."""


JOBS = "jobs.json"
"""Which jobs were sent, in the folder `jobs`."""


class Staging:
    """`.NAME.packing` beside DEST, locked by one process; what an earlier, killed packing left in it is used again."""

    def __init__(self, dest: Path) -> None:
        self.dest = Path(os.path.abspath(dest))
        self.folder = self.dest.parent / f".{self.dest.name}.packing"
        self.parts, self.records, self.out = (self.folder / n for n in ("parts", "records", "out"))
        self.arrays = self.folder / "arrays"
        self.log = self.parts / "examined.jsonl"
        """What was found out of images, a line for each part."""
        self.jobs = self.folder / "jobs"
        """What jobs of a cluster need that pack together, if there are any."""
        self._lock: int | None = None
        self.locked = False
        """Whether this process has the folder."""
        self._opened = False
        self._made: list[Path] = []

    @property
    def _folders(self) -> tuple[Path, ...]:
        return self.parts, self.records, self.out, self.arrays, self.jobs

    @property
    def fingerprint(self) -> str | None:
        """What the folder was opened for; None if it was not."""
        try:
            return (self.folder / "fingerprint").read_text()
        except FileNotFoundError:
            return None

    @property
    def logs(self) -> list[Path]:
        """Every log of examined parts: of a packing here, and of each job of a cluster."""
        return sorted(self.parts.glob("examined*.jsonl"))

    def refuse_jobs(self) -> None:
        """Raise MedvqError if jobs of a cluster were sent to pack to the same DEST."""
        if (self.jobs / JOBS).exists():
            raise MedvqError(
                "jobs of a cluster pack to this folder",
                where=str(self.dest),
                hint="`medvq shard` with --profile tells how far they are",
            )

    def claim(self) -> None:
        """Make the folder, and those above it, and lock it.

        Raises:
            OSError: it cannot be made.
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
        """Empty the claimed folder unless it was made for the same `fingerprint`.

        Raises:
            OSError: it cannot be written.
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
        """Take the folder for this process; False where it is not there, or who had it removed it meanwhile.

        Raises:
            MedvqError: another process packs to the same DEST.
        """
        path = self.folder / "lock"
        try:
            fd = self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
        """Rename what was made to DEST."""
        for path in (self.out / "manifest.json", self.out / "index.parquet", self.out):
            sync(path)
        os.rename(self.out, self.dest)
        sync(self.dest.parent)

    def abandon(self) -> None:
        """Leave nothing that this packing made: not its folder, unless it never came to open an earlier packing's."""
        if self._opened or not (self.folder / "fingerprint").exists():
            self.remove()
        self.release()
        for parent in reversed(self._made):
            try:
                parent.rmdir()
            except OSError:
                return

    def remove(self) -> None:
        """Leave nothing beside DEST; the folder of another process is left alone."""
        if self.locked:
            # The lock goes last, so that nobody has the folder while things in it are still being removed.
            for folder in self._folders:
                shutil.rmtree(folder, ignore_errors=True)
            for name in ("fingerprint", "lock"):
                with suppress(OSError):
                    (self.folder / name).unlink()
        self.release()
        with suppress(OSError):  # it is not empty, and so another's
            self.folder.rmdir()

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock, self.locked = None, False


def sync(path: Path) -> None:
    """Make a file or a folder's entries durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def refuse_other(dest: Path) -> None:
    """DEST must be free, an empty folder, or a dataset.

    Raises:
        UsageError: it is something else.
    """
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
    """Turn an OSError of writing into a MedvqError that names DEST."""
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
