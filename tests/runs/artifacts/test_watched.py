"""Metrics of the test split over epochs."""

import pytest

from medvq.runs.artifacts.watched import watched_metrics

HISTORY = [{"epoch": k + 1, "metrics": {"test/accuracy": k / 20, "test/loss": 1 - k / 20}} for k in range(15)]
HISTORY += [{"epoch": 16, "metrics": {"test/accuracy": 0.1, "test/loss": 0.9, "val/accuracy": 1.0}}]
BETTER = {"test/accuracy": "max", "test/loss": "min", "test/auc": "max"}


def test_last_and_mean_of_the_last_ten():
    found = watched_metrics(HISTORY, BETTER, best_on_test=False)
    assert found["test/accuracy_last"] == 0.1
    assert found["test/accuracy_last10"] == pytest.approx((sum(range(6, 15)) / 20 + 0.1) / 10)
    assert not any("best" in name or "auc" in name for name in found)


def test_best_on_test_only_where_it_is_asked_for():
    """Test chooses nothing, unless a study says so; the metric's name then says it too."""
    found = watched_metrics(HISTORY, BETTER, best_on_test=True)
    assert found["test/accuracy_best_on_test"] == 0.7
    assert found["test/loss_best_on_test"] == pytest.approx(0.3)
