"""Classification metrics of labels, predictions and probabilities.

The metrics are written in numpy because they take a leading axis of bootstrap resamples, which scikit-learn and
torchmetrics do not. Tests compare them with both.

Conventions for a class without samples:

- recall is undefined (NaN) for a class without labelled samples;
- precision is undefined for a class that is neither labelled nor predicted, and 0 for a class that is labelled and
  never predicted;
- balanced accuracy averages recall over the labelled classes;
- macro-F1 averages F1 over the classes that are labelled or predicted;
- macro AUC averages the one-vs-rest AUC over the classes with at least one positive and one negative sample.

These are the conventions of scikit-learn, except that its AUC raises an error if a class is absent. An undefined
metric is NaN, and `summary` leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95
"""Confidence level of all intervals."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


def wilson(correct: int, n: int, level: float = LEVEL) -> Interval:
    """Return the score interval of a proportion (Wilson 1927).

    Unlike the normal approximation, it is valid for few samples and for proportions near 0 and 1.

    Args:
        correct: number of successes.
        n: number of trials.
        level: confidence level, in (0, 1).

    Raises:
        ValueError: `correct` is not in [0, n], or n is 0.
    """
    from scipy.stats import binomtest  # takes a second to import

    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} of {n} is not a proportion")
    found = binomtest(correct, n).proportion_ci(level, method="wilson")
    return Interval(low=float(found.low), high=float(found.high))


def confusion(label: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix (K, K): counts by true class (rows) and predicted class (columns).

    Args:
        label: (N,) integers in [0, K).
        predicted: (N,) integers in [0, K).
        classes: K.

    Raises:
        ValueError: the lengths differ, or a value is not in [0, K).
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
    """Return the share of samples on the diagonal; (..., K, K) -> (...)."""
    m = np.asarray(matrix, np.float64)
    return _ratio(np.trace(m, axis1=-2, axis2=-1), m.sum((-2, -1)))


def recall(matrix: ArrayLike) -> Floats:
    """Return the share of each class's samples that are predicted as this class; (..., K, K) -> (..., K)."""
    m = np.asarray(matrix, np.float64)
    return _ratio(_diagonal(m), m.sum(-1))


def precision(matrix: ArrayLike) -> Floats:
    """Return the share of the predictions of each class that are correct; (..., K, K) -> (..., K)."""
    m = np.asarray(matrix, np.float64)
    labelled, said = m.sum(-1), m.sum(-2)
    return np.where((said == 0) & (labelled > 0), 0.0, _ratio(_diagonal(m), said))


def f1(matrix: ArrayLike) -> Floats:
    """Return 2TP / (2TP + FP + FN) of each class; (..., K, K) -> (..., K)."""
    m = np.asarray(matrix, np.float64)
    return _ratio(2 * _diagonal(m), m.sum(-1) + m.sum(-2))


@of_confusion
def balanced_accuracy(matrix: ArrayLike) -> Floats:
    """Return the mean recall; (..., K, K) -> (...)."""
    return _mean(recall(matrix))


@of_confusion
def macro_f1(matrix: ArrayLike) -> Floats:
    """Return the mean F1; (..., K, K) -> (...)."""
    return _mean(f1(matrix))


def class_auc(label: ArrayLike, probability: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Return the area under the ROC curve of each class against the rest.

    It is the probability that a positive sample has a higher score than a negative one; ties count one half.

    Args:
        label: (N,) integers in [0, K).
        probability: (N, K) scores.
        weights: (..., N) how often each sample counts; None counts each sample once.

    Returns:
        (..., K); NaN for a class without positive or without negative samples.

    Raises:
        ValueError: the lengths differ, or a label is not in [0, K).
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
    """Return the macro AUC, the mean of `class_auc`. With two classes it is the usual AUC."""
    return _mean(class_auc(label, probability, weights))


def summary(
    label: ArrayLike, predicted: ArrayLike, probability: ArrayLike | None = None, classes: int | None = None
) -> dict[str, float]:
    """Return accuracy, balanced_accuracy, macro_f1 and, given probabilities, auc. Undefined metrics are left out.

    Args:
        label: (N,) integers in [0, K).
        predicted: (N,) integers in [0, K).
        probability: (N, K) scores.
        classes: K, if there are no probabilities; by default the largest class that occurs plus one.
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
    """Return `{class, samples, precision, recall, f1, precision_ci, recall_ci}` of each class.

    The last two are Wilson's intervals `[low, high]`. Undefined values are None.

    Args:
        matrix: (K, K) confusion matrix.
        names: the K class names.
    """
    m = np.asarray(matrix)
    columns = {"precision": precision(m), "recall": recall(m), "f1": f1(m)}
    return [
        {
            "class": name,
            "samples": int(m[k].sum()),
            **{c: float(v[k]) if np.isfinite(v[k]) else None for c, v in columns.items()},
            "precision_ci": _interval(int(m[k, k]), int(m[:, k].sum())),
            "recall_ci": _interval(int(m[k, k]), int(m[k].sum())),
        }
        for k, name in enumerate(names)
    ]


def _interval(correct: int, n: int) -> list[float] | None:
    if n == 0:
        return None
    found = wilson(correct, n)
    return [found.low, found.high]


def _classes_of(values: ArrayLike, classes: int) -> NDArray[np.int64]:
    found = np.asarray(values)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(f"classes must be a list of integers, not {found.dtype} of shape {found.shape}")
    if found.size and not 0 <= found.min() <= found.max() < classes:
        raise ValueError(f"classes must be in 0 to {classes - 1}, not {found.min()} to {found.max()}")
    return found.astype(np.int64)


def _diagonal(matrix: Floats) -> Floats:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _ratio(part: Any, whole: Any) -> Floats:
    """Return part / whole; NaN where the whole is 0."""
    whole = np.asarray(whole, np.float64)
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0))


def _mean(values: Floats) -> Floats:
    """Return the mean of the finite values over the last axis; NaN if there are none."""
    finite = np.isfinite(values)
    return _ratio(np.where(finite, values, 0.0).sum(-1), finite.sum(-1))
