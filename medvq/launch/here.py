"""Run a plan on this machine: skip what is done, resume what stopped, retry what failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from medvq.launch.capacity import measure, side_by_side
from medvq.launch.packages import check_packages
from medvq.launch.plan import Runs
from medvq.launch.watch import Stop, Watch
from medvq.runs.state import RunStatus, status_of


def run_here(
    plan: Runs,
    stop: Stop,
    watch: Watch,
    parallel: int | Literal["auto"] = 1,
    begin: Callable[[], object] = lambda: None,
) -> dict[str, RunStatus]:
    """Do every run of the plan that is not done, and return the status of all runs by name.

    Args:
        plan: the runs, needs first.
        stop: the request to stop.
        watch: is told what happens.
        parallel: how many runs go side by side.
        begin: is called when everything was checked, before the first run starts.

    Raises:
        UsageError: the runs cannot be done in this way here.
        MissingError: a package that a run needs is not installed.
        MedvqError: workers cannot be started at all.
    """
    from medvq.launch.scheduler import LocalScheduler

    todo, capacity = [spec for spec in plan.runs if status_of(plan.folder_of(spec)).state != "done"], measure()
    check_packages(todo)
    slots = side_by_side(parallel, todo, capacity) if todo else 0
    scheduler = LocalScheduler(plan, todo, stop, watch, capacity, slots) if todo else None
    begin()
    if scheduler is not None:
        scheduler.run()
    return {spec.run: status_of(plan.folder_of(spec)) for spec in plan.runs}
