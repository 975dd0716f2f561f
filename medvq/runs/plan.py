"""plans/<n>.json: the runs that one `medvq run` or `medvq submit` was asked for."""

from __future__ import annotations

import contextlib
import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvq.errors import NotFoundError
from medvq.files import make_folder, read_json, write_json


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """A plan on disk."""

    number: int
    """Counts from 1 in a study."""
    content: dict[str, Any]
    """Keys: study, text, overrides, datasets, runs, and left_out: the jobs that `--only` excluded."""

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The runs as `{run, job, values, needs}`, in topological order."""
        runs: list[dict[str, Any]] = self.content["runs"]
        return runs


def save_plan(study_folder: Path, content: dict[str, Any]) -> PlanRecord:
    """Write a plan under the next number, unless it equals the last plan; return the plan on disk."""
    last = last_plan(study_folder)
    if last and last.content == content:
        return last
    folder = make_folder(study_folder / "plans")
    with open(folder / ".lock", "w") as lock:
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        last = last_plan(study_folder)
        if last and last.content == content:
            return last
        number = last.number + 1 if last else 1
        write_json(folder / f"{number}.json", content)
    return PlanRecord(number=number, content=content)


def last_plan(study_folder: Path) -> PlanRecord | None:
    """Return the plan with the highest number; None if there is no plan."""
    numbers = plan_numbers(study_folder)
    return load_plan(study_folder, numbers[-1]) if numbers else None


def plan_numbers(study_folder: Path) -> list[int]:
    """Return the numbers of all plans in ascending order."""
    return sorted(int(p.stem) for p in (study_folder / "plans").glob("*.json") if p.stem.isdigit())


def load_plan(study_folder: Path, number: int) -> PlanRecord:
    """Return the plan with this number.

    Raises:
        NotFoundError: there is no such plan.
    """
    content = read_json(study_folder / "plans" / f"{number}.json")
    if content is None:
        raise NotFoundError(f"no plan {number}", where=str(study_folder / "plans"))
    return PlanRecord(number=number, content=content)
