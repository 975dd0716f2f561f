"""Find and remove what nobody needs any more: runs of older plans, and copies of code."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvq.errors import MedvqError
from medvq.launch.slurm.locate_jobs import Queue, ask
from medvq.runs.commands import announced_runs
from medvq.runs.folder import RunFolder
from medvq.runs.owner import holder_of
from medvq.runs.plan import load_plan, plan_numbers
from medvq.runs.submission import Submission, latest, submissions


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """Something that can be removed."""

    path: Path
    bytes: int
    why: str


def garbage(runs: Path, studies: Sequence[Path], say: Callable[[str], None]) -> list[Garbage]:
    """Return run folders of older plans, and copies of code that no open run uses.

    Runs that a process works on, runs that SLURM has, and all runs that these need are kept. SLURM is asked once, and
    only if runs of older plans were sent and are not done. If it does not answer, these are kept too.

    Args:
        runs: the folder of all runs.
        studies: folders of the studies to look at.
        say: is told if SLURM does not answer.
    """
    found: list[Garbage] = []
    old = {folder: _older(folder) for folder in studies}
    sent = {folder: _sent(folder, needs) for folder, needs in old.items()}
    queue: Queue | None = None
    if any(sent.values()):
        try:
            queue = ask(s for runs_of in sent.values() for places in runs_of.values() for s, _ in places)
        except MedvqError as e:
            say(f"squeue: {e.error}; runs of older plans that were sent and are not done are kept, with what they need")
    for folder, needs in old.items():
        going = {
            run for run, places in sent[folder].items() if queue is None or any(queue.may_go_on(*p) for p in places)
        }
        going |= {run for run in needs if holder_of(RunFolder(folder / run).owner)} | announced_runs(folder).keys()
        for name in sorted(needs.keys() - with_needs(going, needs)):
            run = RunFolder(folder / name)
            if run.spec.exists():
                found.append(Garbage(path=run.path, bytes=size(run.path), why="of an older plan"))
    used = {Path(code) for folder in runs.glob("*/submissions") for code in _open_code(folder.parent)}
    for code in sorted((runs / ".code").glob("*")):
        if code.resolve() not in used:
            found.append(Garbage(path=code, bytes=size(code), why="code of runs that have ended"))
    return found


def _older(study_folder: Path) -> dict[str, list[str]]:
    """Return runs of older plans, with the runs that each needs.

    Older means: before the last plan of all jobs of the study. A later plan of some jobs, as made by `--only`, does not
    make the runs of other jobs old.
    """
    plans = [load_plan(study_folder, n) for n in plan_numbers(study_folder)]
    whole = max((i for i, plan in enumerate(plans) if not plan.content.get("left_out")), default=0)
    keep = {r["run"] for plan in plans[whole:] for r in plan.runs}
    all_runs = [r for plan in plans for r in plan.runs]
    return {r["run"]: [n["run"] for n in r["needs"].values()] for r in all_runs if r["run"] not in keep}


def _sent(study_folder: Path, runs: Iterable[str]) -> dict[str, list[tuple[Submission, int]]]:
    """Return those of some runs that SLURM took, or may have taken, and that have no result."""
    found: dict[str, list[tuple[Submission, int]]] = {}
    there = [s for s in submissions(study_folder) if s.content["job"] is not False]
    tasks = [(run, s, index) for s in there for index, run in s.tasks.items()]
    for run, submission, index in tasks:
        if run in runs and not RunFolder(study_folder / run).result.exists():
            found.setdefault(run, []).append((submission, index))
    return found


def with_needs(runs: Iterable[str], needs: Mapping[str, Sequence[str]]) -> set[str]:
    """Return runs and all runs that they need, directly or not. Pure."""
    found: set[str] = set()
    more = set(runs)
    while more:
        found |= more
        more = {n for run in more for n in needs.get(run, ())} - found
    return found


def _open_code(study_folder: Path) -> list[str]:
    """Return the copies of code of runs that SLURM may still start: they were sent and have no result."""
    last = latest(submissions(study_folder))
    return [s.content["code"] for run, (s, _) in last.items() if not RunFolder(study_folder / run).result.exists()]


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def remove(found: Sequence[Garbage]) -> None:
    """Remove what `garbage` found."""
    for item in found:
        shutil.rmtree(item.path)
