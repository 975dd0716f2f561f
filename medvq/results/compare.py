"""Whether two rows of a table differ: the same test images under both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medvq.metrics.bootstrap import mcnemar, paired_bootstrap
from medvq.results.intervals import kept_of, resampled_of
from medvq.runs.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One row minus another, in one column."""

    row: Any
    than: Any
    """The row that it is compared with."""
    column: Any
    value: float
    """The difference of the means over runs."""
    low: float
    high: float
    """95 % interval: the same test images drawn again for both, the runs of each on their own."""
    p: float
    """Two-sided: of the paired bootstrap; McNemar's exact test where it is the accuracy of one run each."""
    test: str
    """Which of the two."""
    n: int
    """Test images."""


def compare(
    row: Any, than: Any, column: Any, ours: Sequence[RunFolder], theirs: Sequence[RunFolder], metric: str
) -> Compared | None:
    """The difference between the runs of two rows; None where they kept too little or were tested on other images."""
    a, b = kept_of(ours, metric), kept_of(theirs, metric)
    keys = [list(columns["key"]) for columns in (*a, *b)]
    if not a or not b or any(k != keys[0] for k in keys):
        return None
    name, n = metric.partition("/")[2], len(keys[0])
    functions = [[resampled_of(columns, name) for columns in kept] for kept in (a, b)]
    known = [[f for f in found if f is not None] for found in functions]
    if [len(k) for k in known] != [len(a), len(b)]:
        return None
    found = paired_bootstrap(known[0], known[1], n)
    p, test = found.p, "paired bootstrap"
    if name == "accuracy" and len(a) == len(b) == 1:
        p, test = mcnemar(a[0]["label"], a[0]["predicted"], b[0]["predicted"]).p, "McNemar"
    return Compared(
        row=row, than=than, column=column, value=found.value, low=found.low, high=found.high, p=p, test=test, n=n
    )
