"""submissions/<n>.json: one call of `sbatch` and the SLURM job that it created.

The file is written before the call, so that a call that was killed can be found later.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvq.errors import NotFoundError
from medvq.files import make_folder, read_json, write_json
from medvq.runs.owner import Busy


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A SLURM job array with one task for each run, as recorded on disk."""

    path: Path
    content: dict[str, Any]
    """Keys: number, key, profile, slurm (settings of the profile), code, time, tasks, after, job. `job` is null while
    it is unknown whether SLURM accepted the array, and false if SLURM certainly did not."""

    @property
    def number(self) -> int:
        """Number of the submission, counted from 1 in a study."""
        return int(self.content["number"])

    @property
    def key(self) -> str:
        """Unique comment of the SLURM job, by which the job is found."""
        return str(self.content["key"])

    @property
    def job(self) -> str | None:
        """SLURM's id of the array, from `sbatch` or else from the batch script; None if neither has reported it."""
        if self.open and self.started.exists():
            return self.started.read_text().strip() or None
        return self.content["job"] or None

    @property
    def open(self) -> bool:
        """Whether it is still unknown if SLURM accepted the array."""
        return self.content["job"] is None

    @property
    def tasks(self) -> dict[int, str]:
        """Names of the runs by their index in the array."""
        return {int(i): run for i, run in self.content["tasks"].items()}

    @property
    def mine(self) -> bool:
        """Whether this user sent it. SLURM may hide jobs of other users, so that a missing job proves nothing."""
        return self.sender == os.getuid()

    @property
    def sender(self) -> int:
        """Numeric id of the user who sent it."""
        return self.path.stat().st_uid

    @property
    def sender_name(self) -> str:
        """Name of the user who sent it, or the numeric id if there is no name."""
        try:
            return pwd.getpwuid(self.sender).pw_name
        except KeyError:
            return f"user {self.sender}"

    def held(self, holder: Busy | None) -> bool:
        """Return whether the holder of a run belongs to this or an earlier submission of this user.

        Such a holder is dead if SLURM no longer has the job of this submission.
        """
        within = holder is not None and holder.term is not None and 0 < holder.term.submission <= self.number
        return within and self.job is not None and self.mine

    @property
    def started(self) -> Path:
        """File to which the batch script writes the id of its job when it starts."""
        return self.path.with_suffix(".job")

    def after(self, event: Mapping[str, Any] | None) -> bool:
        """Return whether the submission was made after an event of a run."""
        return event is not None and float(self.content["time"]) > float(event["time"])

    def log(self, index: int) -> Path:
        """Return the file with the output of a task's batch script, over all requeues."""
        return self.path.with_name(f"{self.number}-{index}.out")

    def id_of(self, index: int) -> str:
        """Return SLURM's id of a task."""
        return f"{self.job}_{index}"

    def settle(self, job: str | bool) -> Submission:
        """Record the job that was created, or False if none was."""
        settled = Submission(path=self.path, content={**self.content, "job": job})
        write_json(settled.path, settled.content)
        return settled


def load_submission(path: Path) -> Submission:
    """Read a submission.

    Raises:
        NotFoundError: there is no such file.
    """
    content = read_json(path)
    if content is None:
        raise NotFoundError("no such submission", where=str(path))
    return Submission(path=path, content=content)


def submissions(study_folder: Path) -> list[Submission]:
    """Return all submissions of a study, oldest first."""
    paths = [p for p in (study_folder / "submissions").glob("*.json") if p.stem.isdigit()]
    return [load_submission(p) for p in sorted(paths, key=lambda p: int(p.stem))]


def latest(found: list[Submission]) -> dict[str, tuple[Submission, int]]:
    """Return for each run its last submission that SLURM accepted, or may have accepted, and its index there."""
    return {run: (s, i) for s in found if s.content["job"] is not False for i, run in s.tasks.items()}


def new_submission(study_folder: Path, content: dict[str, Any]) -> Submission:
    """Record a submission under the next number before it is sent. The caller holds the lock."""
    there = submissions(study_folder)
    number = there[-1].number + 1 if there else 1
    path = make_folder(study_folder / "submissions") / f"{number}.json"
    made = Submission(path=path, content={"number": number, **content, "job": None})
    write_json(path, made.content)
    return made


def last_lines(log: Path, count: int = 3) -> list[str]:
    """Return the last lines of a batch script's output that are not empty."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-count:]


@contextlib.contextmanager
def locked(study_folder: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock of a study's submissions, so that one `medvq submit` works at a time.

    Yields the file descriptor of the lock. A child process that inherits it keeps the lock, so that the next `submit`
    waits for an `sbatch` whose parent was killed.

    Args:
        study_folder: `runs/<study>`.
        say: is called with a message if another process holds the lock.
    """
    with open(make_folder(study_folder / "submissions") / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for a submit of {study_folder.name}, or its `sbatch`, to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()
