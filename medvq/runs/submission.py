"""submissions/<n>.json: what one call of `sbatch` was to send, written before it, and the SLURM job that came of it."""

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
    """An array of equal runs, as it stands on disk."""

    path: Path
    content: dict[str, Any]
    """number, key, profile, slurm (the profile's), code, tasks, script, job; `job` is null until SLURM took it, and
    false where it is certain that it never did."""

    @property
    def number(self) -> int:
        """Counts from 1 in a study."""
        return int(self.content["number"])

    @property
    def key(self) -> str:
        """What finds it in SLURM: the comment of its job."""
        return str(self.content["key"])

    @property
    def job(self) -> str | None:
        """SLURM's id of the array, as `sbatch` or else the batch script told it; None where neither has."""
        if self.open and self.started.exists():
            return self.started.read_text().strip() or None
        return self.content["job"] or None

    @property
    def open(self) -> bool:
        """Whether it is not known yet if SLURM took it."""
        return self.content["job"] is None

    @property
    def tasks(self) -> dict[int, str]:
        """Run names by their index in the array."""
        return {int(i): run for i, run in self.content["tasks"].items()}

    @property
    def mine(self) -> bool:
        """Whether this user sent it. SLURM may hide the jobs of others: that it does not have one says nothing."""
        return self.sender == os.getuid()

    @property
    def sender(self) -> int:
        """Id of the user who sent it."""
        return self.path.stat().st_uid

    @property
    def sender_name(self) -> str:
        """The name of that user, or the id where it has none."""
        try:
            return pwd.getpwuid(self.sender).pw_name
        except KeyError:
            return f"user {self.sender}"

    def held(self, holder: Busy | None) -> bool:
        """Whether the holder of a run is the job of this submission or of one before: gone, if SLURM says of this
        user's jobs that this one neither waits nor runs.
        """
        within = holder is not None and holder.term is not None and 0 < holder.term.submission <= self.number
        return within and self.job is not None and self.mine

    @property
    def started(self) -> Path:
        """Where the batch script writes the id of its job when it begins."""
        return self.path.with_suffix(".job")

    def after(self, event: Mapping[str, Any] | None) -> bool:
        """Whether it was made after that event of a run."""
        return event is not None and float(self.content["time"]) > float(event["time"])

    def log(self, index: int) -> Path:
        """What the batch script of a task printed, over all requeues."""
        return self.path.with_name(f"{self.number}-{index}.out")

    def id_of(self, index: int) -> str:
        """SLURM's id of a task."""
        return f"{self.job}_{index}"

    def settle(self, job: str | bool) -> Submission:
        """Write down the job that came of it, or False where none did."""
        settled = Submission(path=self.path, content={**self.content, "job": job})
        write_json(settled.path, settled.content)
        return settled


def load_submission(path: Path) -> Submission:
    """Read one.

    Raises:
        NotFoundError: it is not there.
    """
    content = read_json(path)
    if content is None:
        raise NotFoundError("no such submission", where=str(path))
    return Submission(path=path, content=content)


def submissions(study_folder: Path) -> list[Submission]:
    """All of a study, oldest first."""
    paths = [p for p in (study_folder / "submissions").glob("*.json") if p.stem.isdigit()]
    return [load_submission(p) for p in sorted(paths, key=lambda p: int(p.stem))]


def latest(found: list[Submission]) -> dict[str, tuple[Submission, int]]:
    """The last submission of every run that SLURM took, or may have taken, with the run's index."""
    return {run: (s, i) for s in found if s.content["job"] is not False for i, run in s.tasks.items()}


def new_submission(study_folder: Path, content: dict[str, Any]) -> Submission:
    """Write an intent under the next number; call it with the lock."""
    there = submissions(study_folder)
    number = there[-1].number + 1 if there else 1
    path = make_folder(study_folder / "submissions") / f"{number}.json"
    made = Submission(path=path, content={"number": number, **content, "job": None})
    write_json(path, made.content)
    return made


def last_lines(log: Path, count: int = 3) -> list[str]:
    """The end of what a batch script printed."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-count:]


@contextlib.contextmanager
def locked(study_folder: Path, say: Callable[[str], None]) -> Iterator[int]:
    """One `submit` at a time. Gives the lock's file descriptor: a child that inherits it keeps the lock, so that an
    `sbatch` whose parent was killed is waited for; `say` is told of a wait.
    """
    with open(make_folder(study_folder / "submissions") / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for a submit of {study_folder.name}, or for the `sbatch` that it left, to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()
