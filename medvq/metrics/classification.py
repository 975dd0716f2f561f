"""Classification metrics from labels, predictions and probabilities; numpy only, checked against scikit-learn
and torchmetrics, which cannot take leading axes of resamples and is imported in seconds.

Conventions, for a class that is not there:

- recall is undefined (NaN) without a labelled sample, precision without a labelled or predicted one; a class that is
  labelled and never predicted has precision 0;
- balanced accuracy averages recall over the classes that are labelled;
- macro-F1 averages over the classes that are labelled or predicted;
- macro AUC averages one-vs-rest over the classes that have both a positive and a negative sample.

These are scikit-learn's, except that its AUC raises where a class is absent. What is undefined altogether is NaN, and
`summary` leaves it out. Functions of a confusion matrix take any leading axes, so that bootstrap resamples go at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


def wilson(correct: int, n: int, level: float = LEVEL) -> Interval:
    """The score interval of a proportion (Wilson 1927): right at 0 % and 100 %, and for few samples.

    Raises:
        ValueError: not 0 <= correct <= n, or n = 0.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} of {n} is no proportion")
    z, p = NormalDist().inv_cdf(0.5 + level / 2), correct / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    # At the ends the formula is exact and rounding is not.
    return Interval(low=0.0 if correct == 0 else low, high=1.0 if correct == n else high)


def confusion(label: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """(K, K) counts: rows are the true class, columns the predicted one.

    Args:
        label: (N,) integers 0..K-1.
        predicted: (N,) integers 0..K-1.
        classes: K.

    Raises:
        ValueError: the lengths differ or an entry is no class.
    """
    true, said = _classes_of(label, classes), _classes_of(predicted, classes)
    if len(true) != len(said):
        raise ValueError(f"{len(true)} labels and {len(said)} predictions")
    return np.bincount(true * classes + said, minlength=classes**2).reshape(classes, classes).astype(np.int64)


OfConfusion = Callable[[ArrayLike], Floats]
"""A metric of confusion matrices: (..., K, K) -> (...)."""
OF_CONFUSION: dict[str, OfConfusion] = {}
"""Metrics that are functions of a confusion matrix, by name."""


def of_confusion(function: OfConfusion) -> OfConfusion:
    """Register a metric under the name of its function.

    `summary` computes all registered metrics, and tables give their intervals. A new metric must also be declared in
    `medvq.config.task_info.CLASSIFICATION`.
    """
    OF_CONFUSION[function.__name__] = function
    return function


@of_confusion
def accuracy(matrix: ArrayLike) -> Floats:
    """Share of samples on the diagonal; (..., K, K) -> (...)."""
    m = np.asarray(matrix, np.float64)
    return _ratio(np.trace(m, axis1=-2, axis2=-1), m.sum((-2, -1)))


def recall(matrix: ArrayLike) -> Floats:
    """Of the samples of each class, the share that is found; (..., K, K) -> (..., K)."""
    m = np.asarray(matrix, np.float64)
    return _ratio(_diagonal(m), m.sum(-1))


def precision(matrix: ArrayLike) -> Floats:
    """Of the samples called each class, the share that is it; (..., K, K) -> (..., K)."""
    m = np.asarray(matrix, np.float64)
    labelled, said = m.sum(-1), m.sum(-2)
    return np.where((said == 0) & (labelled > 0), 0.0, _ratio(_diagonal(m), said))


def f1(matrix: ArrayLike) -> Floats:
    """2TP / (2TP + FP + FN) of each class; (..., K, K) -> (..., K)."""
    m = np.asarray(matrix, np.float64)
    return _ratio(2 * _diagonal(m), m.sum(-1) + m.sum(-2))


@of_confusion
def balanced_accuracy(matrix: ArrayLike) -> Floats:
    """Mean recall; (..., K, K) -> (...)."""
    return _mean(recall(matrix))


@of_confusion
def macro_f1(matrix: ArrayLike) -> Floats:
    """Mean F1; (..., K, K) -> (...)."""
    return _mean(f1(matrix))


def class_auc(label: ArrayLike, probability: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Area under each one-vs-rest ROC curve: the chance that a positive outranks a negative, ties counted half.

    Args:
        label: (N,) integers 0..K-1.
        probability: (N, K) scores.
        weights: (..., N) how often each sample counts; once without.

    Returns:
        (..., K); NaN for a class without a positive or without a negative.
    """
    scores = np.asarray(probability)
    true = _classes_of(label, scores.shape[1])
    if len(true) != len(scores):
        raise ValueError(f"{len(true)} labels and {len(scores)} rows of probabilities")
    w = np.ones(len(true)) if weights is None else np.asarray(weights, np.float64)
    if len(true) == 0:
        return np.full((*w.shape[:-1], scores.shape[1]), np.nan)
    areas = []
    for k in range(scores.shape[1]):
        order = np.argsort(scores[:, k], kind="stable")
        ranked, positive = scores[order, k], true[order] == k
        first_of_tie = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        up = np.add.reduceat(w[..., order] * positive, first_of_tie, axis=-1)  # (..., distinct scores)
        down = np.add.reduceat(w[..., order] * ~positive, first_of_tie, axis=-1)
        below = np.cumsum(down, axis=-1) - down
        areas.append(_ratio((up * (below + 0.5 * down)).sum(-1), up.sum(-1) * down.sum(-1)))
    return np.stack(areas, axis=-1)


def auc(label: ArrayLike, probability: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Macro one-vs-rest AUC, the mean of `class_auc`; with two classes the usual AUC."""
    return _mean(class_auc(label, probability, weights))


def summary(
    label: ArrayLike, predicted: ArrayLike, probability: ArrayLike | None = None, classes: int | None = None
) -> dict[str, float]:
    """accuracy, balanced_accuracy, macro_f1 and, given probabilities (N, K), auc; without what is undefined.

    `classes` is K where there are no probabilities; else the largest class seen plus one.
    """
    if probability is not None:
        classes = np.asarray(probability).shape[1]
    elif classes is None:
        classes = 1 + int(max(np.max(label, initial=0), np.max(predicted, initial=0)))
    matrix = confusion(label, predicted, classes)
    found = {name: float(metric(matrix)) for name, metric in OF_CONFUSION.items()}
    if probability is not None:
        found["auc"] = float(auc(label, probability))
    return {name: value for name, value in found.items() if np.isfinite(value)}


def per_class(matrix: ArrayLike, names: list[str]) -> list[dict[str, Any]]:
    """For each class {class, samples, precision, recall, f1}, and Wilson's precision_ci and recall_ci [low, high].

    None where undefined.
    """
    m = np.asarray(matrix)
    columns = {"precision": precision(m), "recall": recall(m), "f1": f1(m)}
    return [
        {
            "class": name,
            "samples": int(m[k].sum()),
            **{c: float(v[k]) if np.isfinite(v[k]) else None for c, v in columns.items()},
            "precision_ci": _share(int(m[k, k]), int(m[:, k].sum())),
            "recall_ci": _share(int(m[k, k]), int(m[k].sum())),
        }
        for k, name in enumerate(names)
    ]


def _share(correct: int, n: int) -> list[float] | None:
    if n == 0:
        return None
    found = wilson(correct, n)
    return [found.low, found.high]


def _classes_of(values: ArrayLike, classes: int) -> NDArray[np.int64]:
    found = np.asarray(values)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(f"classes are a list of integers, not {found.dtype} of shape {found.shape}")
    if found.size and not 0 <= found.min() <= found.max() < classes:
        raise ValueError(f"classes are 0 to {classes - 1}, not {found.min()} to {found.max()}")
    return found.astype(np.int64)


def _diagonal(matrix: Floats) -> Floats:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _ratio(part: Any, whole: Any) -> Floats:
    """part / whole, NaN where the whole is 0."""
    whole = np.asarray(whole, np.float64)
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0))


def _mean(values: Floats) -> Floats:
    """Mean over the last axis of what is defined, NaN where nothing is."""
    there = np.isfinite(values)
    return _ratio(np.where(there, values, 0.0).sum(-1), there.sum(-1))
