"""Metrics and listeners of a user's own: imported and checked when a study is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from medvq.config.task_info import WATCHED, TaskInfo, per_split
from medvq.errors import UsageError
from medvq.registry import import_object


def with_metrics(task: TaskInfo, paths: Sequence[str]) -> TaskInfo:
    """Return the task with metrics of a user's own among those that it declares.

    Args:
        task: what a study may ask of the task.
        paths: import paths of `medvq.metrics.metric.Metric` objects.

    Raises:
        UsageError: an object does not exist or is no metric, or its name is taken.
    """
    for path in paths:
        metric = import_object(path, "metric")
        name, better = getattr(metric, "name", None), getattr(metric, "better", None)
        if not isinstance(name, str) or better not in ("min", "max") or not callable(getattr(metric, "function", None)):
            raise UsageError(f"{path} is no metric", hint="make it a medvq.metrics.metric.Metric")
        if not name.isidentifier():
            raise UsageError(f"{name!r} cannot name the metric {path}", hint="use letters, digits and underscores")
        taken = {declared.rpartition("/")[2] for declared in task.declared}
        if taken & {name, *(f"{name}{suffix}" for suffix in WATCHED)}:
            raise UsageError(f"the name {name!r} of the metric {path} is taken", hint="give the metric another name")
        task = dataclasses.replace(task, optional={**task.optional, **per_split({name: better})})
    return task


def check_listener(path: str) -> None:
    """Import the class of a listener.

    Raises:
        UsageError: it does not exist or is no listener.
    """
    found = import_object(path, "listener")
    if not isinstance(found, type) or not all(callable(getattr(found, name, None)) for name in ("on_epoch", "on_end")):
        raise UsageError(f"{path} is no listener", hint="derive it from medvq.train.listener.EpochListener")
