"""Doing a plan on this machine: what is done stays done, what stopped goes on, what failed is tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from medvq.launch.packages import check_packages
from medvq.launch.plan import Runs
from medvq.launch.room import measure, side_by_side
from medvq.launch.watch import Stop, Watch
from medvq.runs.state import RunStatus, status_of


def run_here(
    plan: Runs,
    stop: Stop,
    watch: Watch,
    parallel: int | Literal["auto"] = 1,
    begin: Callable[[], object] = lambda: None,
) -> dict[str, RunStatus]:
    """Do every run of the plan that is not done, `parallel` at a time, and return the state of all.

    `begin` is called before anything is done, once nothing speaks against it.

    Raises:
        UsageError: it cannot be done this way here.
        MissingError: a package that a run needs is not installed.
        MedvqError: workers cannot be started at all.
    """
    from medvq.launch.scheduler import LocalScheduler

    todo, room = [spec for spec in plan.runs if status_of(plan.folder_of(spec)).state != "done"], measure()
    check_packages(todo)
    work = LocalScheduler(plan, todo, stop, watch, room, side_by_side(parallel, todo, room)) if todo else None
    begin()
    if work is not None:
        work.do()
    return {spec.run: status_of(plan.folder_of(spec)) for spec in plan.runs}
