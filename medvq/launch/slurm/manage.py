"""Runs that were sent: end them, send them again, remove what nobody needs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medvq.config.profile import Profile, Slurm
from medvq.launch.plan import Runs
from medvq.launch.slurm import query
from medvq.launch.slurm.submit import queued_runs
from medvq.runs.folder import RunFolder
from medvq.runs.owner import holder_of
from medvq.runs.plan import last_plan, load_plan, plan_numbers
from medvq.runs.spec import read_spec
from medvq.runs.submission import latest, submissions


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """Something that can go."""

    path: Path
    bytes: int
    why: str


def sent_runs(study_folder: Path, runs: Sequence[str]) -> dict[str, query.Queued]:
    """Which of these runs SLURM has, by name; one question to it."""
    return queued_runs(submissions(study_folder), runs)


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
    """The profile that the last submission of a study went with, as it was then."""
    there = submissions(study_folder)
    if not there:
        return None
    content = there[-1].content
    return Profile(name=content["profile"], where="slurm", slurm=Slurm.model_validate(content["slurm"]))


def garbage(runs: Path, studies: Sequence[Path]) -> list[Garbage]:
    """Run folders that the last plan of their study does not have, and snapshots that no open run uses."""
    found: list[Garbage] = []
    for folder in studies:
        plan = last_plan(folder)
        keep = {r["run"] for r in plan.runs} if plan else set()
        planned = {r["run"] for n in plan_numbers(folder) for r in load_plan(folder, n).runs}
        for name in sorted(planned - keep):
            run = RunFolder(folder / name)
            if run.spec.exists() and holder_of(run.owner) is None:
                found.append(Garbage(path=run.path, bytes=size(run.path), why="not in the last plan"))
    used = {Path(code) for folder in runs.glob("*/submissions") for code in _open_code(folder.parent)}
    for code in sorted((runs / ".code").glob("*")):
        if code.resolve() not in used:
            found.append(Garbage(path=code, bytes=size(code), why="code of runs that have ended"))
    return found


def _open_code(study_folder: Path) -> list[str]:
    """Snapshots of runs that may start again: their last submission is in SLURM's hands, and they have no result."""
    last = latest(submissions(study_folder))
    return [s.content["code"] for run, (s, _) in last.items() if not RunFolder(study_folder / run).result.exists()]


def size(folder: Path) -> int:
    """Bytes of everything in a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def remove(found: Sequence[Garbage]) -> None:
    """Remove it."""
    for item in found:
        shutil.rmtree(item.path)
