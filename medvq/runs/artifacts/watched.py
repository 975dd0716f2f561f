"""What the epochs of a run say of the test split, where a study asked to watch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

LAST = 10


def watched(history: Sequence[Mapping[str, Any]], better: Mapping[str, str], *, best_on_test: bool) -> dict[str, float]:
    """Test metrics after the last epoch, over the last ten, and, if asked for, at the epoch that is best on test.

    Args:
        history: the epochs in order, `{"epoch": 1, "metrics": {"test/accuracy": 0.8, …}}`, as `events.epochs` gives
            them.
        better: for each test metric, by its full name, whether `min` or `max` is better.
        best_on_test: choose by the test split, as papers did; each metric for itself.
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
