"""Cancel runs that were sent, and find what is needed to send them again."""

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
    """Find the jobs of runs, with one question to SLURM.

    Args:
        study_folder: `runs/<study>`.
        runs: names of runs.
        say: if given, jobs of a `submit` that was killed are looked for first and written down; `say` is told what
            was found. None writes nothing.
    """
    if say and any(s.mine for s in submissions(study_folder)):
        with locked(study_folder, say):
            settle(study_folder, say)
    return locate_jobs(submissions(study_folder), runs)


def cancel(tasks: Sequence[str]) -> None:
    """Cancel SLURM jobs. A running run writes a checkpoint first, if that takes less than the cluster's KillWait."""
    if tasks:
        query.call("scancel", *tasks)


def stop_here(folder: RunFolder) -> bool:
    """Request that a run outside of SLURM writes a checkpoint and stops; return False if nobody works on it."""
    if holder_of(folder.owner) is None:
        return False
    folder.stop.touch()
    return True


def planned_runs(study_folder: Path) -> Runs:
    """Return the runs of the last plan, from their folders."""
    plan = last_plan(study_folder)
    names = [r["run"] for r in plan.runs] if plan else []
    return Runs(runs=tuple(read_spec(RunFolder(study_folder / n)) for n in names), folder=study_folder)


def profile_of_last(study_folder: Path) -> Profile | None:
    """Return the profile of the last submission of a study, as it was then; None if there is none.

    Raises:
        UsageError: it was valid for an older medvq and is not any more.
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
