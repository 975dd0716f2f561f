"""plans/<n>.json: what one `run` or `submit` set out to do."""

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
    """A plan as it stands on disk."""

    number: int
    content: dict[str, Any]
    """study, text, overrides, datasets and runs; left_out, the study's other jobs, where only some were asked for."""

    @property
    def runs(self) -> list[dict[str, Any]]:
        """run, job, values and needs of every run, needs first."""
        runs: list[dict[str, Any]] = self.content["runs"]
        return runs


def save_plan(study_folder: Path, content: dict[str, Any]) -> PlanRecord:
    """Write a plan under the next number; the last plan is kept where nothing has changed."""
    last = last_plan(study_folder)
    if last and last.content == content:
        return last
    folder = make_folder(study_folder / "plans")
    with open(folder / ".lock", "w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        last = last_plan(study_folder)
        if last and last.content == content:
            return last
        number = last.number + 1 if last else 1
        write_json(folder / f"{number}.json", content)
    return PlanRecord(number=number, content=content)


def last_plan(study_folder: Path) -> PlanRecord | None:
    """The plan with the highest number."""
    numbers = plan_numbers(study_folder)
    return load_plan(study_folder, numbers[-1]) if numbers else None


def plan_numbers(study_folder: Path) -> list[int]:
    """The numbers of all plans, rising."""
    return sorted(int(p.stem) for p in (study_folder / "plans").glob("*.json") if p.stem.isdigit())


def load_plan(study_folder: Path, number: int) -> PlanRecord:
    """One plan by its number.

    Raises:
        NotFoundError: there is no such plan.
    """
    content = read_json(study_folder / "plans" / f"{number}.json")
    if content is None:
        raise NotFoundError(f"no plan {number}", where=str(study_folder / "plans"))
    return PlanRecord(number=number, content=content)
