"""Find the jobs of runs that were sent, with one question to SLURM.

Jobs are found by their id or, if the answer of `sbatch` was lost, by their comment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from medvq.errors import MedvqError
from medvq.launch.slurm import query
from medvq.launch.slurm.query import Account, Queued
from medvq.runs.submission import Submission, latest

ENDED = frozenset(("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"))
"""States after which SLURM never starts a job again; after others, such as NODE_FAIL, it may be requeued."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """What squeue says of all tasks of some users."""

    tasks: Mapping[str, Queued]
    """Tasks by id, such as `12_3`, and by comment and index, such as `medvq:0123_3`."""

    def find(self, submission: Submission, index: int) -> Queued | None:
        """Return a task; None if SLURM does not know it any more."""
        return self.tasks.get(f"{submission.job or submission.key}_{index}")

    def may_go_on(self, submission: Submission, index: int) -> bool:
        """Return whether a task may still wait or run. If SLURM does not show a job of another user, it may."""
        task = self.find(submission, index)
        return task.active if task else not submission.mine


@dataclass(frozen=True, kw_only=True)
class JobStates:
    """The jobs that SLURM has of some runs."""

    queued: dict[str, Queued] = field(default_factory=dict)
    """Tasks that wait or run, by run."""
    unsure: dict[str, Submission] = field(default_factory=dict)
    """Runs that another user sent, and of which SLURM shows this user nothing."""


def ask(sent: Iterable[Submission], patience: float = query.PATIENCE) -> Queue:
    """Ask squeue once for all jobs of the users who sent these submissions.

    Raises:
        SilentError: SLURM does not answer.
    """
    found = query.queue({os.getuid(), *(s.sender for s in sent)}, patience)
    by_comment = {f"{q.comment}_{q.id.rpartition('_')[2]}": q for q in found.values() if q.comment}
    return Queue(tasks={**by_comment, **found})


def locate_jobs(sent: Sequence[Submission], runs: Iterable[str]) -> JobStates:
    """Find the jobs of runs: one question to squeue, and one to sacct if it does not show a job of another user.

    Raises:
        SilentError: SLURM does not answer.
    """
    wanted = set(runs)
    last = {run: place for run, place in latest(list(sent)).items() if run in wanted}
    if not last:
        return JobStates()
    queue = ask(s for s, _ in last.values())
    there = {run: queue.find(*place) for run, place in last.items()}
    others = {run: place for run, place in last.items() if there[run] is None and not place[0].mine}
    jobs = sorted({s.job for s, _ in others.values() if s.job})
    try:
        known = query.accounts(jobs) if jobs else {}
    except MedvqError:  # there is no accounting
        known = {}
    return JobStates(
        queued={run: q for run, q in there.items() if q and q.active},
        unsure={run: s for run, (s, i) in others.items() if not has_ended(known.get(s.id_of(i)))},
    )


def has_ended(account: Account | None) -> bool:
    """Return whether accounting says that a task has ended for good."""
    return account is not None and account.state in ENDED
