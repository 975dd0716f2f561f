"""Test metrics over the epochs of a run, for studies that evaluate the test split after every epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

LAST = 10
"""Number of last epochs that are averaged."""


def watched_metrics(
    history: Sequence[Mapping[str, Any]], better: Mapping[str, str], *, best_on_test: bool
) -> dict[str, float]:
    """Return `<metric>_last` and `<metric>_last10`, and optionally `<metric>_best_on_test`, of each test metric.

    They are the value after the last epoch, the mean over the last ten epochs, and the best value of all epochs.

    Args:
        history: the epochs in order, `{"epoch": 1, "metrics": {"test/accuracy": 0.8, …}}`, from `events.epochs`.
        better: full name of each test metric and whether `min` or `max` is better.
        best_on_test: add the best value, as papers did that chose the epoch on the test split. It is optimistic.
    """
    found: dict[str, float] = {}
    for name, direction in better.items():
        values = [float(e["metrics"][name]) for e in history if name in e["metrics"]]
        if not values:
            continue
        found[f"{name}_last"] = values[-1]
        found[f"{name}_last10"] = fmean(values[-LAST:])
        if best_on_test:
            found[f"{name}_best_on_test"] = max(values) if direction == "max" else min(values)
    return found
