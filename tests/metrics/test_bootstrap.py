"""Intervals and differences against scipy, statsmodels' formulas, and simulation."""

import math

import numpy as np
import pytest
from scipy import stats as sp

from medvq.metrics import bootstrap, classification


def predictions(seed: int, n: int, right: float, k: int = 3, label=None) -> bootstrap.Predicted:
    """Predictions of a classifier that is right with probability `right`."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, k, n) if label is None else label
    predicted = np.where(rng.random(n) < right, label, (label + rng.integers(1, k, n)) % k)
    probability = rng.dirichlet(np.ones(k), n) * 0.3 + 0.7 * np.eye(k)[predicted]
    return bootstrap.Predicted(label=label, predicted=predicted, classes=k, probability=probability)


def test_mean_and_std_over_seeds():
    assert bootstrap.mean_std([1.0, 2.0, 4.0]) == (pytest.approx(7 / 3), pytest.approx(np.std([1, 2, 4], ddof=1)))
    assert bootstrap.mean_std([0.5]) == (0.5, None)
    with pytest.raises(ValueError):
        bootstrap.mean_std([])


@pytest.mark.parametrize(("correct", "n"), [(0, 7), (7, 7), (1, 7), (1682, 1728), (1527, 1728)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_as_scipy(correct, n, level):
    found = classification.wilson(correct, n, level)
    expected = sp.binomtest(correct, n).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_proportion(correct, n):
    with pytest.raises(ValueError):
        classification.wilson(correct, n)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auc"])
def test_a_resample_is_the_metric_of_the_repeated_samples(metric):
    run = predictions(0, 50, 0.7)
    weights = np.random.default_rng(1).integers(0, 3, (4, 50)).astype(float)
    found = bootstrap.classification_metric(metric, run)(weights)
    for value, w in zip(found, weights.astype(int), strict=True):
        rows = np.repeat(np.arange(50), w)
        expected = classification.summary(run.label[rows], run.predicted[rows], run.probability[rows])
        assert value == pytest.approx(expected[metric])


def test_bootstrap_of_a_mean_is_scipys():
    values = np.random.default_rng(0).exponential(size=120)
    found = bootstrap.bootstrap([bootstrap.sample_mean(values)], 120, resamples=20_000)
    expected = sp.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=0).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_bootstrap_of_accuracy_is_near_wilson():
    run = predictions(3, 1500, 0.9)
    found = bootstrap.bootstrap([bootstrap.classification_metric("accuracy", run)], 1500)
    wilson = classification.wilson(int((run.label == run.predicted).sum()), 1500)
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=0.004)


def test_chunks_do_not_matter_and_the_seed_does(monkeypatch):
    run = [bootstrap.classification_metric("macro_f1", predictions(s, 80, 0.8)) for s in range(3)]
    found = bootstrap.bootstrap(run, 80, resamples=300)
    assert found == bootstrap.bootstrap(run, 80, resamples=300)
    assert found != bootstrap.bootstrap(run, 80, resamples=300, seed=1)
    monkeypatch.setattr(bootstrap, "CHUNK", 80 * 7)
    assert found == bootstrap.bootstrap(run, 80, resamples=300)


@pytest.mark.parametrize("seeds", [3, 8])
def test_seeds_are_resampled_and_hold_the_truth_as_often_as_documented(seeds):
    """Samples add nothing here: an interval over samples alone would be a point."""
    rng, held, trials = np.random.default_rng(1), 0, 300
    for trial in range(trials):
        runs = [bootstrap.sample_mean(np.full(4, 0.8 + rng.normal(0, 0.03))) for _ in range(seeds)]
        found = bootstrap.bootstrap(runs, 4, resamples=400, seed=trial)
        held += found.low <= 0.8 <= found.high
    expected = 2 * sp.t.cdf(1.96 * math.sqrt((seeds - 1) / seeds), seeds - 1) - 1
    assert held / trials == pytest.approx(expected, abs=0.05)


def test_seeds_share_their_resampled_images():
    """Two seeds with equal errors vary like one; two with opposite errors cancel unless one of them is drawn twice."""
    values = np.random.default_rng(0).normal(0, 1, 200)
    same = [bootstrap.sample_mean(values), bootstrap.sample_mean(values)]
    opposite = [bootstrap.sample_mean(values), bootstrap.sample_mean(2 * values.mean() - values)]
    wide, narrow = (bootstrap.bootstrap(runs, 200) for runs in (same, opposite))
    alone = bootstrap.bootstrap(same[:1], 200)
    assert wide.high - wide.low == pytest.approx(alone.high - alone.low, rel=0.07)
    # Half of the resamples are certain, so that 5 % of all is 10 % of the others: 1.645 instead of 1.960 deviations.
    assert narrow.high - narrow.low == pytest.approx(1.645 / 1.960 * (alone.high - alone.low), rel=0.07)


def test_a_metric_that_is_undefined_everywhere_has_no_interval():
    run = bootstrap.Predicted(
        label=np.zeros(5, int), predicted=np.zeros(5, int), classes=2, probability=np.ones((5, 2))
    )
    found = bootstrap.bootstrap([bootstrap.classification_metric("auc", run)], 5, resamples=20)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_rare_class_that_some_resamples_miss_does_not_break_the_interval():
    label = np.array([0] * 30 + [1])
    run = bootstrap.Predicted(label=label, predicted=label, classes=2, probability=np.eye(2)[label])
    for metric in ("balanced_accuracy", "auc"):
        assert bootstrap.bootstrap([bootstrap.classification_metric(metric, run)], 31) == classification.Interval(
            low=1.0, high=1.0
        )


def test_paired_difference_sees_what_separate_intervals_hide():
    label = np.random.default_rng(0).integers(0, 3, 600)
    a = predictions(1, 600, 0.9, label=label)
    worse = np.where(np.arange(600) % 25 == 0, (label + 1) % 3, a.predicted)
    b = bootstrap.Predicted(label=label, predicted=worse, classes=3)
    found = bootstrap.paired_bootstrap(
        [bootstrap.classification_metric("accuracy", a)],
        [bootstrap.classification_metric("accuracy", b)],
        600,
        resamples=1000,
    )
    assert found.value == pytest.approx(np.mean(a.predicted == label) - np.mean(worse == label))
    assert 0 < found.low < found.value < found.high
    assert found.p < 0.01
    alone = [bootstrap.bootstrap([bootstrap.classification_metric("accuracy", r)], 600) for r in (a, b)]
    assert alone[0].low < alone[1].high


def test_no_difference_has_no_small_p():
    run = [bootstrap.classification_metric("accuracy", predictions(5, 200, 0.8))]
    found = bootstrap.paired_bootstrap(run, run, 200, resamples=200)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_mcnemar_as_scipys_binomial_test(seed):
    label = np.random.default_rng(seed).integers(0, 3, 300)
    a, b = (predictions(10 * seed + i, 300, r, label=label).predicted for i, r in enumerate((0.9, 0.82)))
    found = bootstrap.mcnemar(label, a, b)
    assert found.only_a == ((a == label) & (b != label)).sum()
    assert found.only_b == ((a != label) & (b == label)).sum()
    assert found.p == pytest.approx(sp.binomtest(found.only_a, found.only_a + found.only_b).pvalue)


def test_mcnemar_of_the_same_predictions():
    assert bootstrap.mcnemar([0, 1], [0, 0], [0, 0]) == bootstrap.McNemar(only_a=0, only_b=0, p=1.0)
    with pytest.raises(ValueError):
        bootstrap.mcnemar([0, 1], [0], [0, 1])


@pytest.mark.parametrize("metric", ["auc", "acuracy"])
def test_what_cannot_be_resampled_is_refused(metric):
    run = bootstrap.Predicted(label=np.array([0, 1]), predicted=np.array([0, 1]), classes=2)
    with pytest.raises(ValueError):
        bootstrap.classification_metric(metric, run)


def test_nothing_to_resample_is_refused():
    with pytest.raises(ValueError):
        bootstrap.bootstrap([], 5)
    with pytest.raises(ValueError):
        bootstrap.bootstrap([bootstrap.sample_mean([])], 0)
