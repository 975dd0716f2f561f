"""Cancel runs that a SLURM task or a process is working on, or that a command is going to start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvq.launch.slurm import manage
from medvq.launch.watch import cancel_study
from medvq.runs.commands import Driver, announced_runs
from medvq.runs.find import find_run
from medvq.runs.folder import RunFolder
from medvq.runs.owner import holder_of
from medvq.runs.plan import last_plan

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Runs that can be cancelled, by what is working on them."""

    tasks: dict[str, str]
    """Runs that `medvq submit` sent to SLURM, with the ids of their tasks."""
    running: list[RunFolder]
    """Runs that a live process outside of these tasks is working on."""
    waiting: dict[RunFolder, Driver]
    """Runs that a live command is going to start."""
    jobs: dict[RunFolder, str]
    """Those of `running` and `waiting` in a SLURM job that was submitted by hand, with the id of the job. The whole job
    must be cancelled: if only the run was stopped, the job would start it again or go on with the next run."""
    studies: set[Path]
    """Folders of studies that are cancelled as a whole."""

    def lines(self) -> list[str]:
        """Return one line of text for each run."""
        return [
            *(f"{run}  SLURM job {task}" for run, task in self.tasks.items()),
            *(
                f"{f.name}  " + (f"SLURM job {self.jobs[f]}, whole" if f in self.jobs else "running here")
                for f in self.running
            ),
            *(f"{f.name}  its turn comes in {driver}" for f, driver in self.waiting.items()),
        ]

    def names(self) -> list[str]:
        """Return the names of the runs."""
        return [*self.tasks, *(f.name for f in [*self.running, *self.waiting])]


def find_targets(names: Sequence[str], runs: Path, say: Say, *, dry_run: bool) -> Targets:
    """Find out what is working on some runs.

    Args:
        names: names of studies, or prefixes of names of runs.
        runs: folder of all runs.
        say: is called with messages for the user.
        dry_run: change nothing, not even the records of submissions that were interrupted.

    Raises:
        NotFoundError: a name is neither a study nor a run.
    """
    by_study, whole = _runs_of(names, runs)
    tasks: dict[str, str] = {}
    others: list[RunFolder] = []
    waiting: dict[RunFolder, Driver] = {}
    for study, members in by_study.items():
        sent = manage.sent_runs(study, members, None if dry_run else say)
        tasks |= {run: queued.id for run, queued in sent.queued.items()}
        for run, theirs in sent.unsure.items():
            say(f"{run}: {theirs.sender_name} sent it; SLURM does not tell whether it has ended")
        drivers = announced_runs(study)
        for run in members:
            if run not in sent.queued:
                others.append(RunFolder(study / run))
                if run in drivers:
                    waiting[RunFolder(study / run)] = drivers[run]
    holders = {f: holder for f in others if (holder := holder_of(f.owner))}
    waiting = {f: driver for f, driver in waiting.items() if f not in holders and not f.result.exists()}
    for folder in [f for f in waiting if f.path.parent not in whole]:
        say(f"{folder.name}: its turn comes in {waiting.pop(folder)}; cancel the study to end that")
    jobs = {f: holder.term.job for f, holder in holders.items() if holder.term}
    jobs |= {f: driver.job for f, driver in waiting.items() if driver.job}
    return Targets(tasks=tasks, running=list(holders), waiting=waiting, jobs=jobs, studies=whole)


def cancel(targets: Targets) -> None:
    """Cancel SLURM jobs, and ask everything else to write a checkpoint and stop."""
    manage.cancel([*targets.tasks.values(), *dict.fromkeys(targets.jobs.values())])
    for folder in [*targets.running, *targets.waiting]:
        study = folder.path.parent
        if folder in targets.jobs:
            continue
        if folder in targets.waiting or (study in targets.studies and holder_of(folder.owner)):
            cancel_study(study)  # otherwise the command would go on with the next run
        else:
            manage.stop_here(folder)


def _runs_of(names: Sequence[str], runs: Path) -> tuple[dict[Path, list[str]], set[Path]]:
    """Return the names of the runs by the folder of their study, and the studies that were named as a whole."""
    by_study: dict[Path, list[str]] = {}
    whole: set[Path] = set()
    for name in names:
        plan = last_plan(runs / name)
        if plan:
            whole.add(runs / name)
            by_study.setdefault(runs / name, []).extend(r["run"] for r in plan.runs)
        else:
            found = find_run(name, runs).path
            by_study.setdefault(found.parent, []).append(found.name)
    return by_study, whole
