"""Where runs that were sent are in SLURM: one question, answered by the id of the job, or by its comment where the
answer of `sbatch` was lost.
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
"""States that a SLURM job does not come back from; after others, such as NODE_FAIL, it may be requeued."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """What squeue says of all tasks of those who sent the runs in question."""

    tasks: Mapping[str, Queued]
    """By id, `12_3`, and by comment and index, `medvq:0123_3`."""

    def find(self, submission: Submission, index: int) -> Queued | None:
        """A task, if SLURM still knows it."""
        return self.tasks.get(f"{submission.job or submission.key}_{index}")

    def may_go_on(self, submission: Submission, index: int) -> bool:
        """Whether a task waits or runs, for all that is known: SLURM may hide the jobs of others."""
        task = self.find(submission, index)
        return task.active if task else not submission.mine


@dataclass(frozen=True, kw_only=True)
class JobStates:
    """What SLURM has of some runs."""

    queued: dict[str, Queued] = field(default_factory=dict)
    """What waits or runs, by run."""
    unsure: dict[str, Submission] = field(default_factory=dict)
    """Runs that somebody else sent and of which SLURM tells this user nothing."""


def ask(sent: Iterable[Submission], patience: float = query.PATIENCE) -> Queue:
    """Ask squeue, once, for the jobs of everybody who sent one of these.

    Raises:
        SilentError: SLURM does not answer.
    """
    found = query.queue({os.getuid(), *(s.sender for s in sent)}, patience)
    by_comment = {f"{q.comment}_{q.id.rpartition('_')[2]}": q for q in found.values() if q.comment}
    return Queue(tasks={**by_comment, **found})


def locate_jobs(sent: Sequence[Submission], runs: Iterable[str]) -> JobStates:
    """What SLURM has of these runs; one question, and one more where it does not know the job of somebody else.

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
    except MedvqError:  # accounting is off
        known = {}
    return JobStates(
        queued={run: q for run, q in there.items() if q and q.active},
        unsure={run: s for run, (s, i) in others.items() if not has_ended(known.get(s.id_of(i)))},
    )


def has_ended(account: Account | None) -> bool:
    """Whether accounting says that a task will not come back."""
    return account is not None and account.state in ENDED
