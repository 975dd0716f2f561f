"""What becomes of runs after their workers have ended: which are tried again, and which are given up."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence

from medvq.errors import MedvqError
from medvq.launch.allocation.allocation import allocation
from medvq.launch.plan import Runs
from medvq.launch.watch import Watch
from medvq.runs import events
from medvq.runs.owner import Busy, Term, claim, holder_of
from medvq.runs.process import Process
from medvq.runs.spec import RunSpec
from medvq.runs.state import RunStatus, status_of
from medvq.train.failure import LESS_MEMORY

DISK_FULL = os.strerror(errno.ENOSPC)
"""Part of what workers say when the disk is full."""
OUT_OF_MEMORY = "OutOfMemory"
"""Part of what Ray says when it has killed a worker because memory ran out."""


class Recovery:
    """The retry policy of one call of `medvq run`.

    A run that failed by itself, or that was stopped by its own stop file, is not tried again. If workers died, the run
    that they worked on is tried again as often as its `retries` allow.
    """

    def __init__(self, plan: Runs, watch: Watch) -> None:
        self.plan, self.watch = plan, watch
        self.deaths: dict[str, int] = {}
        """How often workers died, by run."""
        self.given_up: set[str] = set()
        """Runs that are not tried again."""

    def settle(
        self, batch: Sequence[RunSpec], attempts_before: Mapping[str, int], error: BaseException | None, stopping: bool
    ) -> None:
        """Decide what becomes of the runs of a group that has ended.

        Args:
            batch: the runs.
            attempts_before: number of attempts of each before the group started.
            error: why the workers died; None if they ended by themselves.
            stopping: whether the command was asked to stop.

        Raises:
            MedvqError: workers cannot be started at all, or the run folder cannot be written.
        """
        if error is not None:
            for spec in batch:
                self._release(spec)
        states = {spec.run: status_of(self.plan.folder_of(spec)) for spec in batch}
        # Another process may have started runs of the batch since; this one must not give them up.
        left = [s for s in batch if states[s.run].state != "done" and busy_elsewhere(states[s.run]) is None]
        tried = [s for s in left if states[s.run].attempts > attempts_before[s.run]]
        failed = [s for s in tried if states[s.run].state == "failed"]
        stopped = [s for s in tried if states[s.run].asked]
        self.given_up |= {s.run for s in ([*failed, *stopped] if error else tried)}
        if isinstance(error, MedvqError):
            raise error
        if error is not None and not failed and (isinstance(error, OSError) or DISK_FULL in str(error)):
            why, file = (error.strerror or error, error.filename) if isinstance(error, OSError) else (DISK_FULL, None)
            raise MedvqError(
                f"the run folder cannot be written: {why}",
                where=str(file or self.plan.folder),
                hint="free some space or mend the permissions; the same command then goes on",
            ) from error
        open_ = [s for s in left if s.run not in self.given_up]
        if error is not None and open_ and not failed and not stopping:
            started = [s for s in open_ if s in tried]
            self._count_death((started or open_)[0], bool(started), error)

    def _release(self, spec: RunSpec) -> None:
        """Release a run that dead workers of this process held, so that workers that still live cannot write."""
        folder, mine = self.plan.folder_of(spec), Process.current()
        holder = holder_of(folder.owner)
        if holder is None or (holder.host, holder.pid) != (mine.host, mine.pid):
            return
        owner = claim(folder.owner, mine, Term.here(), look_back=True)
        if not isinstance(owner, Busy):
            folder.progress.unlink(missing_ok=True)
            owner.release()

    def _count_death(self, spec: RunSpec, started: bool, error: BaseException) -> None:
        """Count a death of workers against a run, and give the run up after too many.

        Args:
            spec: the run that they worked on, or were about to start.
            started: whether the run had started.
            error: why they died.

        Raises:
            MedvqError: they died too often before the run had started.
        """
        deaths = self.deaths[spec.run] = self.deaths.get(spec.run, 0) + 1
        if OUT_OF_MEMORY in str(error):
            self._give_up(spec, f"the machine ran out of memory; {LESS_MEMORY}")
        elif deaths <= spec.config.resources.retries:
            where = "starting again from the last checkpoint" if started else "starting again"
            self.watch.note(f"{spec.run}: a process died; {where}")
        elif started:
            self._give_up(spec, f"its processes died {deaths} times; the last time: {error}")
        else:
            raise MedvqError(f"the workers could not be started: {error}") from error

    def _give_up(self, spec: RunSpec, why: str) -> None:
        """Record that a run has failed. Inside a SLURM job it is only reported: SLURM may try it on another node."""
        self.given_up.add(spec.run)
        if allocation() is not None:
            self.watch.note(f"{spec.run}: {why}")
            return
        folder = self.plan.folder_of(spec)
        owner = claim(folder.owner, Process.current(), Term.here(), look_back=True)
        if not isinstance(owner, Busy):
            log = str(folder.log(owner.attempt, 0))
            events.append(folder.events, owner, "failed", error=why, traceback=[], log=log)
            owner.release()


def busy_elsewhere(status: RunStatus) -> Busy | None:
    """Return who else works on a run; None if nobody does.

    A run that this process still seems to hold was left by workers of its own that died.
    """
    holder = status.holder
    if holder is None or (holder.host, holder.pid) == (socket.gethostname(), os.getpid()):
        return None
    return None if holder.yields_to(Term.here()) else holder
