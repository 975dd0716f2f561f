"""Runs that were sent: end them, send them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from medvq.config.profile import Profile, Slurm
from medvq.errors import UsageError
from medvq.launch.plan import Runs
from medvq.launch.slurm import query
from medvq.launch.slurm.locate_jobs import JobStates, locate_jobs
from medvq.launch.slurm.submit import Say, settle
from medvq.runs.folder import RunFolder
from medvq.runs.owner import holder_of
from medvq.runs.plan import last_plan
from medvq.runs.spec import read_spec
from medvq.runs.submission import locked, submissions


def sent_runs(study_folder: Path, runs: Sequence[str], say: Say | None) -> JobStates:
    """Which of these runs SLURM has; one question to it.

    Args:
        study_folder: `runs/<study>`.
        runs: names of runs.
        say: is told what became of a `submit` that was killed, which is written down, and waited for while its
            `sbatch` lives on; None writes nothing.
    """
    if say and any(s.mine for s in submissions(study_folder)):
        with locked(study_folder, say):
            settle(study_folder, say)
    return locate_jobs(submissions(study_folder), runs)


def cancel(tasks: Sequence[str]) -> None:
    """End SLURM jobs; what runs writes a checkpoint first, within the cluster's KillWait."""
    if tasks:
        query.call("scancel", *tasks)


def stop_here(folder: RunFolder) -> bool:
    """Ask a run that goes on outside SLURM to write a checkpoint and stop; False where none does."""
    if holder_of(folder.owner) is None:
        return False
    folder.stop.touch()
    return True


def planned_runs(study_folder: Path) -> Runs:
    """The runs of the last plan, from their folders."""
    plan = last_plan(study_folder)
    names = [r["run"] for r in plan.runs] if plan else []
    return Runs(runs=tuple(read_spec(RunFolder(study_folder / n)) for n in names), folder=study_folder)


def profile_of_last(study_folder: Path) -> Profile | None:
    """The profile that the last submission of a study went with, as it was then.

    Raises:
        UsageError: an older medvq took it, and this one does not.
    """
    there = submissions(study_folder)
    if not there:
        return None
    content = there[-1].content
    try:
        return Profile(name=content["profile"], where="slurm", slurm=Slurm.model_validate(content["slurm"]))
    except ValidationError as e:
        words = e.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(words, where=str(there[-1].path), hint="mend the profile, and give it with --profile") from e
