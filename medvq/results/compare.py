"""Differences between two rows of a table that were tested on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medvq.metrics.bootstrap import mcnemar, paired_bootstrap
from medvq.results.intervals import read_common, resampled_metric
from medvq.runs.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class RowDifference:
    """One row of a table minus another one, in one column."""

    row: Any
    than: Any
    """The row that is subtracted."""
    column: Any
    value: float | None
    """Difference of the means over runs; None, as all numbers below, if it has no value: then `reason` says why."""
    low: float | None
    """Lower end of the 95 % interval. Both rows get the same resampled test images; the runs of each row are
    resampled separately."""
    high: float | None
    """Upper end of the interval."""
    p: float | None
    """Two-sided p-value."""
    test: str
    """The test that gives p: McNemar's exact test for the accuracy of one run each, else the paired bootstrap."""
    n: int
    """Number of test images."""
    reason: str = ""
    """Why there is no value."""


def compare(
    row: Any, than: Any, column: Any, ours: Sequence[RunFolder], theirs: Sequence[RunFolder], metric: str
) -> RowDifference | None:
    """Return the difference in a metric between the runs of two rows.

    Args:
        row: name of the first row.
        than: name of the row that is subtracted.
        column: name of the column.
        ours: run folders of the first row.
        theirs: run folders of the other row.
        metric: full name of the metric, such as `test/accuracy`.

    Returns:
        The difference; None if the runs did not keep what the metric needs or were tested on different images.
    """
    a, b = read_common(ours, metric), read_common(theirs, metric)
    keys = [list(columns["key"]) for columns in (*a, *b)]
    if not a or not b or any(k != keys[0] for k in keys):
        return None
    name, n = metric.partition("/")[2], len(keys[0])
    metrics = [[resampled_metric(columns, name) for columns in rows] for rows in (a, b)]
    known = [[m for m in found if m is not None] for found in metrics]
    if [len(k) for k in known] != [len(a), len(b)]:
        return None
    found = paired_bootstrap(known[0], known[1], n)
    p, test = found.p, "paired bootstrap"
    if name == "accuracy" and len(a) == len(b) == 1:
        p, test = mcnemar(a[0]["label"], a[0]["predicted"], b[0]["predicted"]).p, "McNemar"
    value, low, high = found.value, found.low, found.high
    if not all(map(math.isfinite, (value, low, high, p))):
        why = f"{name} has no value for these {n} images, as if all are of one class"
        return RowDifference(
            row=row, than=than, column=column, value=None, low=None, high=None, p=None, test=test, n=n, reason=why
        )
    return RowDifference(row=row, than=than, column=column, value=value, low=low, high=high, p=p, test=test, n=n)
