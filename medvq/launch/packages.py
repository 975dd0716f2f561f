"""Whether the optional packages that runs need are installed."""

from __future__ import annotations

from collections.abc import Iterable

from medvq.config.task_info import find_task
from medvq.extras import require
from medvq.runs.spec import RunSpec


def check_packages(specs: Iterable[RunSpec]) -> None:
    """Check before any run starts that the launcher and the task of each run have their packages.

    Raises:
        MissingError: a package is not installed.
    """
    for spec in specs:
        where, task, resources = f"job {spec.job}", spec.config.task, spec.config.resources
        if resources.launcher == "ray" and resources.workers != 0:
            require("ray", "workers of Ray Train", where=where, otherwise="train in one process with `--workers 0`")
        for module in find_task(task).packages:
            require(module, f"the task {task}", where=where)
