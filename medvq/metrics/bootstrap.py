"""Bootstrap intervals of metrics, and tests of the difference between two methods.

The bootstrap resamples test samples with replacement and, if there are several seeds, also seeds. All seeds share the
resampled samples, because they were tested on the same images. Random draws are keyed, so that a table has the same
intervals every time it is printed.

With few seeds the intervals are too narrow if seeds vary more than samples do. In the limit of no variation between
samples, a 95 % interval over S seeds covers the true value with probability P(|t| < 1.96 √((S-1)/S)), where t has S-1
degrees of freedom: 75 % for 3 seeds, 89 % for 8, 93 % for 20.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvq.keys import draw_key
from medvq.metrics import classification
from medvq.metrics.classification import LEVEL, Interval

Floats = NDArray[np.float64]
Resampled = Callable[[Floats], Floats]
"""Maps weights (R, N), how often each sample counts in each resample, to the metric of each resample, (R,)."""

RESAMPLES = 2000
"""Number of resamples."""
CHUNK = 4_000_000
"""Largest number of entries of a weight matrix (R, N) that is held in memory."""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Predictions of one run for N test samples. Compared runs list the same samples in the same order."""

    label: NDArray[np.int64]
    """(N,) true classes, in [0, K)."""
    predicted: NDArray[np.int64]
    """(N,) predicted classes, in [0, K)."""
    classes: int
    """Number of classes, K."""
    probability: Floats | None = None
    """(N, K) scores; needed for AUC only."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Metric of method a minus that of method b on the same samples."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided p-value."""


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Result of McNemar's test."""

    only_a: int
    """Number of samples that only classifier a predicts correctly."""
    only_b: int
    """Number of samples that only classifier b predicts correctly."""
    p: float
    """Exact two-sided p-value."""


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (ddof = 1); the latter is None for a single value.

    Raises:
        ValueError: `values` is empty.
    """
    if len(values) == 0:
        raise ValueError("no values to average")
    found = np.asarray(values, np.float64)
    return float(found.mean()), float(found.std(ddof=1)) if len(found) > 1 else None


def classification_metric(metric: str, run: Predicted) -> Resampled:
    """Return a metric of `classification.summary` as a function of resamples.

    Raises:
        ValueError: the metric is unknown, or it is `auc` and the run has no probabilities.
    """
    if metric == "auc":
        scores = run.probability
        if scores is None:
            raise ValueError("auc needs probabilities")
        return lambda weights: classification.auc(run.label, scores, weights)
    if metric not in classification.OF_CONFUSION:
        raise ValueError(f"unknown metric {metric!r}; known: auc, {', '.join(classification.OF_CONFUSION)}")
    of_confusion, k = classification.OF_CONFUSION[metric], run.classes
    classification.confusion(run.label, run.predicted, k)  # raises for values outside [0, K)
    at = run.label * k + run.predicted  # (N,) flat index of each sample's cell in the confusion matrix
    order = np.argsort(at, kind="stable")
    cells, first = np.unique(at[order], return_index=True)

    def of_resamples(weights: Floats) -> Floats:
        matrix = np.zeros((len(weights), k * k))
        matrix[:, cells] = np.add.reduceat(weights[:, order], first, axis=1)
        return of_confusion(matrix.reshape(-1, k, k))

    return of_resamples


def sample_mean(values: ArrayLike) -> Resampled:
    """Return the mean of a per-sample quantity (N,), such as the squared error, as a function of resamples.

    Samples whose value is not finite are left out.
    """
    found = np.asarray(values, np.float64)
    finite = np.isfinite(found)
    value = np.where(finite, found, 0.0)

    def of_resamples(weights: Floats) -> Floats:
        n = weights @ finite
        return np.asarray(np.divide(weights @ value, n, out=np.full(len(weights), np.nan), where=n > 0))

    return of_resamples


def bootstrap(
    seeds: Sequence[Resampled], n: int, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return the percentile interval of a metric's mean over seeds, resampling both seeds and samples.

    Args:
        seeds: the metric of each seed's run, from `classification_metric` or `sample_mean`.
        n: number of test samples.
        level: confidence level, in (0, 1).
        resamples: number of resamples.
        seed: seed of the random draws.

    Raises:
        ValueError: there are no seeds or no samples.
    """
    values = np.concatenate([_of_seeds(seeds, *draw) for draw in _draws(n, [len(seeds)], resamples, seed)])
    return _percentiles(values, level)


def paired_bootstrap(
    a: Sequence[Resampled],
    b: Sequence[Resampled],
    n: int,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Return the difference of two methods' means over seeds, with its percentile interval and p-value.

    Both methods get the same resampled images; the seeds of each are resampled separately. The p-value is
    2 (k + 1) / (R + 1), at most 1. Here R is the number of resamples, and k the smaller of two counts: differences that
    are at most 0, and differences that are at least 0.

    Args:
        a: the metric of each seed's run of the first method.
        b: the metric of each seed's run of the second method.
        n: number of test samples.
        level: confidence level, in (0, 1).
        resamples: number of resamples.
        seed: seed of the random draws.

    Raises:
        ValueError: a method has no seeds, or there are no samples.
    """
    parts = []
    for weights, seeds_a, seeds_b in _draws(n, [len(a), len(b)], resamples, seed):
        parts.append(_of_seeds(a, weights, seeds_a) - _of_seeds(b, weights, seeds_b))
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    interval = _percentiles(values, level)
    once = np.ones((1, n))
    value = np.mean([f(once)[0] for f in a]) - np.mean([f(once)[0] for f in b])
    rarer = min(int((values <= 0).sum()), int((values >= 0).sum()))
    p = min(1.0, 2 * (rarer + 1) / (len(values) + 1))
    return Difference(value=float(value), low=interval.low, high=interval.high, p=p)


def mcnemar(label: ArrayLike, a: ArrayLike, b: ArrayLike) -> McNemar:
    """Test whether two classifiers have the same accuracy on the same samples (McNemar 1947, exact binomial form).

    Args:
        label: (N,) true classes.
        a: (N,) predictions of the first classifier.
        b: (N,) predictions of the second classifier.

    Raises:
        ValueError: the lengths differ.
    """
    from scipy.stats import binomtest  # takes a second to import

    true, predicted_a, predicted_b = (np.asarray(v) for v in (label, a, b))
    if not true.shape == predicted_a.shape == predicted_b.shape:
        raise ValueError(f"{len(true)} labels, {len(predicted_a)} and {len(predicted_b)} predictions")
    right_a, right_b = predicted_a == true, predicted_b == true
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p=p)


def _draws(n: int, groups: Sequence[int], resamples: int, seed: int) -> Iterator[tuple[Floats, ...]]:
    """Yield chunks of resamples: counts of the samples (R, N), then counts of each group's seeds (R, S).

    The raw bits of Philox are the same in every version of numpy. Samples and each group of seeds have a stream of
    their own, which the chunks consume in order, so that the size of a chunk does not change the draws.
    """
    if n < 1 or min(groups) < 1:
        raise ValueError("a bootstrap needs samples and seeds")
    names = ["samples", *(f"seeds {i}" for i in range(len(groups)))]
    streams = [np.random.Philox(key=draw_key(seed, "bootstrap", name)) for name in names]
    step = max(1, CHUNK // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        yield tuple(_counts(stream, rows, k) for stream, k in zip(streams, (n, *groups), strict=True))


def _counts(stream: np.random.Philox, rows: int, k: int) -> Floats:
    """Draw k times from k items with replacement, `rows` times; return how often each item was drawn, (rows, k)."""
    uniform = (stream.random_raw(rows * k) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    chosen = (uniform * k).astype(np.int64).reshape(rows, k) + k * np.arange(rows)[:, None]
    return np.bincount(chosen.ravel(), minlength=rows * k).reshape(rows, k).astype(np.float64)


def _of_seeds(seeds: Sequence[Resampled], weights: Floats, chosen: Floats) -> Floats:
    """Return the metric's mean over the resampled seeds: (R, N), (R, S) -> (R,)."""
    return np.asarray((np.stack([f(weights) for f in seeds], axis=1) * chosen).sum(1) / chosen.sum(1))


def _percentiles(values: Floats, level: float) -> Interval:
    """Return the percentile interval over the resamples in which the metric is defined."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return Interval(low=math.nan, high=math.nan)
    low, high = np.quantile(finite, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(low=float(low), high=float(high))
