"""Metrics of a user's own, computed from the rows that a run keeps of every image."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)
Columns = Mapping[str, NDArray[Any]]
"""Columns by name, (N,) each: one value for each image."""


class MetricError(RuntimeError):
    """A user's own metric raised an error or did not return a number."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that summarises one split.

    A study names it by its import path: `metrics: ["my_lab.metrics:specificity"]`. Its value appears as `SPLIT/NAME`
    in the metrics of every epoch, in `result.json` and in tables.
    """

    name: str
    """The metric's name, a Python identifier. It must not be the name of a metric of the task."""
    better: Literal["min", "max"]
    """Whether lower or higher values are better."""
    function: Callable[[Columns, Sequence[str]], float]
    """Computes the metric from the columns of the split's `predictions.parquet`, as read-only arrays (N,), and from the
    names of the classes, which are empty if the task has no labels. NaN says that the metric is undefined."""


def evaluate_metrics(
    metrics: Mapping[str, Metric], columns: Mapping[str, Any], classes: Sequence[str], split: str
) -> dict[str, float]:
    """Compute metrics of one split.

    Args:
        metrics: metrics by import path.
        columns: aligned lists or arrays, (N,) each. Functions get read-only views.
        classes: names of the classes.
        split: name of the split, for messages.

    Returns:
        Values by metric name. A value that is NaN or infinite is left out, with a warning in the log: JSON has no such
        numbers, and a table shows such a metric as missing.

    Raises:
        MetricError: a function raised an error or did not return a number, or a metric has the name of a column.
    """
    arrays = {name: _read_only(values) for name, values in columns.items()}
    found: dict[str, float] = {}
    for path, metric in metrics.items():
        if metric.name in arrays:
            raise MetricError(f"the metric {path} is called {metric.name!r}, which is a column of predictions.parquet")
        value = _number(path, metric, arrays, classes, split)
        if math.isfinite(value):
            found[metric.name] = value
        else:
            log.warning("the metric %s is %s on %s and is left out", path, value, split)
    return found


def _number(path: str, metric: Metric, columns: Columns, classes: Sequence[str], split: str) -> float:
    """Return what the metric's function gives, as a float."""
    try:
        value = metric.function(columns, classes)
    except Exception as e:
        said = MetricError(f"the metric {path} failed on {split}: {type(e).__name__}: {e}")
        raise said.with_traceback(e.__traceback__) from e  # the traceback ends in the user's code
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise MetricError(f"the metric {path} returned on {split} a {type(value).__name__}, not a number")
    return float(value)


def _read_only(values: Any) -> NDArray[Any]:
    """Return the values of a column as an array that cannot be written to; text as Python objects."""
    array = np.asarray(values)
    array = (array.astype(object) if array.dtype.kind == "U" else array).view()
    array.flags.writeable = False
    return array
