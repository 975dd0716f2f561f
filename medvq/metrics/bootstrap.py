"""Intervals and differences: how sure a number in a table is.

Conventions: std over seeds has ddof = 1 and is undefined for one seed; intervals are two-sided at `LEVEL`. The
bootstrap resamples test samples and, where there are several, seeds: two ways, both with replacement, a seed's rows
aligned with the others', as all seeds were tested on the same images. With few seeds it is too narrow where seeds vary
more than samples do: a 95 % interval then holds the truth in P(|t| < 1.96 √((S-1)/S)) of cases, t with S-1 degrees of
freedom: 75 % for 3 seeds, 89 % for 8, 93 % for 20. Draws are keyed: a table has the same intervals every time.
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
"""How often each sample counts, (R, N) -> the metric of each resample, (R,)."""

RESAMPLES = 2000
CHUNK = 4_000_000
"""Entries of (R, N) that are held at once."""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What one run said of the N test samples; runs that are compared list the same samples in the same order."""

    label: NDArray[np.int64]
    """(N,) true classes, 0..K-1."""
    predicted: NDArray[np.int64]
    """(N,) predicted classes."""
    classes: int
    """K."""
    probability: Floats | None = None
    """(N, K), for AUC."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Method a minus method b on the same samples."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided: how easily resampling turns the sign."""


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """The samples on which exactly one of two classifiers is right, and the exact two-sided p."""

    only_a: int
    only_b: int
    p: float


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (ddof = 1) over seeds; the latter None for a single one.

    Raises:
        ValueError: no values.
    """
    if len(values) == 0:
        raise ValueError("no values to average")
    found = np.asarray(values, np.float64)
    return float(found.mean()), float(found.std(ddof=1)) if len(found) > 1 else None


def classification_metric(metric: str, run: Predicted) -> Resampled:
    """One of `classification.summary`'s metrics as a function of resamples.

    Raises:
        ValueError: the metric is unknown, or is auc where there are no probabilities.
    """
    if metric == "auc":
        scores = run.probability
        if scores is None:
            raise ValueError("auc needs probabilities")
        return lambda weights: classification.auc(run.label, scores, weights)
    if metric not in classification.OF_CONFUSION:
        raise ValueError(f"unknown metric {metric!r}; known: auc, {', '.join(classification.OF_CONFUSION)}")
    of_confusion, k = classification.OF_CONFUSION[metric], run.classes
    classification.confusion(run.label, run.predicted, k)  # refuses what is no class
    at = run.label * k + run.predicted  # (N,) the cell of the confusion matrix that each sample is counted in
    order = np.argsort(at, kind="stable")
    cells, first = np.unique(at[order], return_index=True)

    def of_resamples(weights: Floats) -> Floats:
        matrix = np.zeros((len(weights), k * k))
        matrix[:, cells] = np.add.reduceat(weights[:, order], first, axis=1)
        return of_confusion(matrix.reshape(-1, k, k))

    return of_resamples


def sample_mean(values: ArrayLike) -> Resampled:
    """The mean of a per-sample quantity (N,), such as the squared error of each image, without those that are NaN."""
    found = np.asarray(values, np.float64)
    there = np.isfinite(found)
    value = np.where(there, found, 0.0)

    def of_resamples(weights: Floats) -> Floats:
        n = weights @ there
        return np.asarray(np.divide(weights @ value, n, out=np.full(len(weights), np.nan), where=n > 0))

    return of_resamples


def bootstrap(
    seeds: Sequence[Resampled], n: int, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Percentile interval of the mean over seeds of a metric; both seeds and samples are resampled.

    Args:
        seeds: the metric of each seed's run, as `classification` or `sample_mean` gives it.
        n: how many test samples there are.
        level: the confidence level.
        resamples: how many to draw.
        seed: keys the draws.

    Raises:
        ValueError: no seeds, or no samples.
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
    """Method a minus method b: the same resampled images for both, the seeds of each resampled on their own.

    Arguments and errors are those of `bootstrap`; p is 2 (k + 1) / (R + 1), at most 1, where k of R differences lie
    on the rarer side of 0 or on it.
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
    """The exact test that two classifiers err equally often on the same samples (McNemar 1947, binomial form).

    Args:
        label: (N,) true classes.
        a: (N,) predictions of one.
        b: (N,) predictions of the other.

    Raises:
        ValueError: the lengths differ.
    """
    true, said_a, said_b = (np.asarray(v) for v in (label, a, b))
    if not true.shape == said_a.shape == said_b.shape:
        raise ValueError(f"{len(true)} labels, {len(said_a)} and {len(said_b)} predictions")
    right_a, right_b = said_a == true, said_b == true
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    n, rarer = only_a + only_b, min(only_a, only_b)
    logs = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(rarer + 1))
    tail = math.fsum(math.exp(log - n * math.log(2)) for log in logs)
    return McNemar(only_a=only_a, only_b=only_b, p=min(1.0, 2 * tail))


def _draws(n: int, groups: Sequence[int], resamples: int, seed: int) -> Iterator[tuple[Floats, ...]]:
    """Resamples by chunks: counts of the samples (R, N), then of each group's seeds (R, S).

    Philox's bits are the same in every numpy version; the chunks take them in turn from one stream each.
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
    """How often each of k is drawn in k draws with replacement, `rows` times: (rows, k)."""
    uniform = (stream.random_raw(rows * k) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    chosen = (uniform * k).astype(np.int64).reshape(rows, k) + k * np.arange(rows)[:, None]
    return np.bincount(chosen.ravel(), minlength=rows * k).reshape(rows, k).astype(np.float64)


def _of_seeds(seeds: Sequence[Resampled], weights: Floats, chosen: Floats) -> Floats:
    """The mean over the resampled seeds: (R, N), (R, S) -> (R,)."""
    return np.asarray((np.stack([f(weights) for f in seeds], axis=1) * chosen).sum(1) / chosen.sum(1))


def _percentiles(values: Floats, level: float) -> Interval:
    """Of the resamples in which the metric is defined."""
    there = values[np.isfinite(values)]
    if len(there) == 0:
        return Interval(low=math.nan, high=math.nan)
    low, high = np.quantile(there, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(low=float(low), high=float(high))
