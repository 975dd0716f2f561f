"""Which SLURM jobs work on one dataset: a record in a hidden folder beside it, and what SLURM says of them."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medvq.errors import DataError, MedvqError, MissingError, NotFoundError, UsageError
from medvq.files import read_json, write_json
from medvq.launch.slurm import query
from medvq.launch.slurm.datasets.executor import Executor
from medvq.runs.submission import last_lines

KINDS = {kind.code: kind for kind in (MedvqError, UsageError, NotFoundError, MissingError, DataError)}
"""Errors by exit code."""


@dataclass(frozen=True, kw_only=True)
class SentJob:
    """An array, or a single job, that was sent."""

    phase: str
    job: str
    """SLURM's id."""
    tasks: int
    after: str | None = None
    """The job whose success it waits for."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One call of the command that sent jobs. The record is written before the first `sbatch`, with a key by which
    SLURM finds all of its jobs, even those whose ids the command did not live to read.
    """

    path: Path
    content: dict[str, Any]
    """key, number, profile, options, time, sent."""

    @property
    def key(self) -> str:
        """What the comments of its jobs begin with."""
        return str(self.content["key"])

    @property
    def number(self) -> int:
        """Counts from 1."""
        return int(self.content["number"])

    @property
    def options(self) -> dict[str, Any]:
        """The options of the command that results depend on."""
        return dict(self.content["options"])

    @property
    def sent(self) -> list[SentJob]:
        """Jobs whose ids are known, in order."""
        return [SentJob(**row) for row in self.content["sent"]]

    @property
    def folder(self) -> Path:
        """Where submitit keeps the tasks and their logs."""
        return self.path.parent / f"attempt-{self.number}"

    def add(self, sent: SentJob) -> None:
        """Write down a job that was sent."""
        self.content["sent"].append(asdict(sent))
        write_json(self.path, self.content)

    def active(self, patience: float = query.PATIENCE) -> list[query.Queued]:
        """Ask SLURM which of its tasks wait or run.

        Raises:
            SilentError: SLURM does not answer.
        """
        found = query.queue({os.getuid()}, patience)
        return [task for task in found.values() if task.active and task.comment.startswith(f"{self.key}:")]

    def logs(self) -> list[Path]:
        """What its tasks printed, the oldest first."""
        return sorted(self.folder.glob("*_log.out"), key=lambda path: path.stat().st_mtime)

    def last_words(self) -> list[str]:
        """The end of the log that was written last."""
        return last_lines(self.logs()[-1]) if self.logs() else []


def last_attempt(path: Path) -> Attempt | None:
    """Read the record; None if no jobs were ever sent, or the record is damaged.

    Raises:
        MedvqError: another user sent them: SLURM may hide whether they still run.
    """
    content = read_json(path)
    if content is None:
        return None
    attempt = Attempt(path=path, content=content)
    if path.stat().st_uid != os.getuid():
        raise MedvqError("jobs of another user work on this folder", where=str(path))
    return attempt


def new_attempt(path: Path, *, profile: str, options: dict[str, Any], before: Attempt | None) -> Attempt:
    """Write the record of an attempt that is about to send jobs."""
    content = {
        "key": f"medvq:{secrets.token_hex(8)}",
        "number": before.number + 1 if before else 1,
        "profile": profile,
        "options": options,
        "time": round(time.time(), 3),
        "sent": [],
    }
    write_json(path, content)
    return Attempt(path=path, content=content)


def active_text(active: Sequence[query.Queued]) -> str:
    """Say which jobs wait or run, such as `12 (examine: 3 running, 5 pending), 13 (layout: 1 pending)`."""
    jobs: dict[tuple[str, str], dict[str, int]] = {}
    for task in active:
        counts = jobs.setdefault((task.id.partition("_")[0], task.comment.rpartition(":")[2]), {})
        counts[task.state.lower()] = counts.get(task.state.lower(), 0) + 1
    return ", ".join(
        f"{job} ({phase}: {', '.join(f'{n} {state}' for state, n in counts.items())})"
        for (job, phase), counts in sorted(jobs.items(), key=lambda item: int(re.sub(r"\D", "", item[0][0]) or 0))
    )


def write_failure(path: Path, phase: str, error: MedvqError, options: dict[str, Any]) -> None:
    """Write down why a task failed, for the command to tell."""
    facts = {"phase": phase, "error": error.error, "where": error.where, "hint": error.hint, "code": error.code}
    write_json(path, {**facts, "options": options})


def read_failure(path: Path, options: dict[str, Any]) -> tuple[str, MedvqError] | None:
    """Return (phase, error) of what a task with the same options wrote down, if there is any."""
    facts = read_json(path)
    if facts is None or facts["options"] != options:
        return None
    return facts["phase"], KINDS.get(facts["code"], MedvqError)(
        facts["error"], where=facts["where"], hint=facts["hint"]
    )


def shares(count: int, tasks: int) -> Iterator[slice]:
    """Cut `count` pieces of work into contiguous shares, one for each task; sizes differ by one at most. Pure."""
    for k in range(tasks):
        yield slice(count * k // tasks, count * (k + 1) // tasks)


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """Jobs that were sent for a dataset."""

    dataset: str
    sent: list[SentJob]
    logs: str
    """The folder of their logs."""


def send(
    phases: Sequence[tuple[str, Sequence[Callable[[], None]]]], tasks: Executor, attempt: Attempt, dataset: str
) -> Submitted:
    """Send phases, each waiting for the one before, and write down each job.

    Raises:
        SilentError, MedvqError: as `Executor.send`.
    """
    before: str | None = None
    for phase, members in phases:
        job = tasks.send(members, phase=phase, after=before)
        attempt.add(SentJob(phase=phase, job=job, tasks=len(members), after=before))
        before = job
    return Submitted(dataset=dataset, sent=attempt.sent, logs=str(attempt.folder))


def wait_for_jobs(attempt: Attempt, done: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Wait until `done`, or until SLURM has no job of the attempt that waits or runs; it may be slow to answer."""
    pause, silent = POLL, False
    while not done():
        try:
            if not attempt.active(query.GLANCE):
                return
        except query.SilentError as e:
            if not silent:
                say(f"{e.error}; still waiting")
            silent = True
        end = time.monotonic() + pause
        while time.monotonic() < end and not done():
            time.sleep(POLL)
        pause = min(pause * 1.5, MOST_POLL)


POLL, MOST_POLL = 0.5, 15.0
"""Seconds between looks at the folder, and at most between questions to SLURM."""
