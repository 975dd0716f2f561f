"""Doing a plan on this machine: what is done stays done, what stopped goes on, what failed is tried again."""

from __future__ import annotations

from typing import Literal

from medvq.launch.plan import Runs
from medvq.launch.room import measure, side_by_side
from medvq.launch.watch import Stop, Watch
from medvq.runs.state import RunStatus, status_of


def run_here(plan: Runs, stop: Stop, watch: Watch, parallel: int | Literal["auto"] = 1) -> dict[str, RunStatus]:
    """Do every run of the plan that is not done, `parallel` at a time, and return the state of all.

    Raises:
        MedvqError: workers cannot be started at all.
    """
    todo = [spec for spec in plan.runs if status_of(plan.folder_of(spec)).state != "done"]
    if todo:
        from medvq.launch.work import Work

        room = measure()
        Work(plan, todo, stop, watch, room, side_by_side(parallel, todo, room)).do()
    return {spec.run: status_of(plan.folder_of(spec)) for spec in plan.runs}
