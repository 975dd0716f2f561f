"""Confidence intervals of the numbers in a table, from the per-image rows that runs keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.files import read_json
from medvq.metrics.bootstrap import Predicted, Resampled, bootstrap, classification_metric, sample_mean
from medvq.metrics.classification import OF_CONFUSION, Interval, summary, wilson
from medvq.runs.artifacts.predictions import classifier_prefixes, probability_of, read_split
from medvq.runs.folder import RunFolder

CLASSIFICATION = {*OF_CONFUSION, "auc"}
Columns = dict[str, NDArray[Any]]
"""Columns of `predictions.parquet` by name, (N,) each."""


def interval_of(folders: Sequence[RunFolder], metric: str) -> Interval | None:
    """Return the 95 % interval of a metric's mean over runs; None if there is none.

    There is none if the runs did not keep what it needs, or if the metric has no value for some resamples.

    The accuracy of a single run has Wilson's interval. Every other interval is a bootstrap over samples and, if there
    are several runs, over runs.

    Args:
        folders: the runs.
        metric: full name of the metric, such as `test/accuracy`.
    """
    runs, name = read_common(folders, metric), metric.partition("/")[2]
    if not runs:
        return None
    n = len(runs[0]["key"])
    prefix = _classifier(runs[0], name)
    if len(runs) == 1 and prefix is not None and name == f"{prefix}accuracy":
        return wilson(int((runs[0]["label"] == runs[0][f"{prefix}predicted"]).sum()), n)
    found = [resampled_metric(columns, name) for columns in runs]
    known = [m for m in found if m is not None]
    interval = bootstrap(known, n) if len(known) == len(found) else None
    return interval if interval and math.isfinite(interval.low) and math.isfinite(interval.high) else None


def read_common(folders: Sequence[RunFolder], metric: str) -> list[Columns]:
    """Return the columns that each run kept of the metric's split, such as `test` of `test/accuracy`.

    The list is empty if a run kept nothing of this split, or if the runs kept different images.
    """
    found = [read_split(folder.artifacts, metric.partition("/")[0]) for folder in folders]
    kept = [columns for columns in found if columns is not None]
    same_images = all(np.array_equal(columns["key"], kept[0]["key"]) for columns in kept)
    return kept if len(kept) == len(found) and same_images else []


def resampled_metric(columns: Columns, name: str) -> Resampled | None:
    """Return a metric as a function of resampled images; None if the columns do not determine it.

    Args:
        columns: what a run kept of each image.
        name: name of the metric without its split, such as `accuracy`.
    """
    prefix = _classifier(columns, name)
    if prefix is not None:
        predicted = _predicted(columns, prefix)
        if name != f"{prefix}auc" or predicted.probability is not None:
            return classification_metric(name.removeprefix(prefix), predicted)
    return sample_mean(columns[name]) if name in columns else None


def majority(folder: RunFolder, metric: str) -> tuple[float, Interval | None] | None:
    """Return a metric of the constant prediction of the training split's largest class, with its interval.

    None if the metric is not one of a confusion matrix or the run kept no labels.
    """
    counts = (read_json(folder.result) or {}).get("train_classes")
    split, _, name = metric.partition("/")
    columns = read_split(folder.artifacts, split)
    if not counts or name not in OF_CONFUSION or columns is None:
        return None
    label = columns["label"].astype(np.int64)
    constant = np.full_like(label, int(np.argmax(list(counts.values()))))
    value = summary(label, constant, classes=len(counts))[name]
    if name == "accuracy":
        return value, wilson(int((label == constant).sum()), len(label))
    predicted = Predicted(label=label, predicted=constant, classes=len(counts))
    return value, bootstrap([classification_metric(name, predicted)], len(label))


def _classifier(columns: Columns, name: str) -> str | None:
    """Return the column prefix of the classifier that a metric belongs to; None if it belongs to no classifier."""
    for prefix in classifier_prefixes(columns):
        if name.startswith(prefix) and name.removeprefix(prefix) in CLASSIFICATION:
            return prefix
    return None


def _predicted(columns: Columns, prefix: str) -> Predicted:
    label, predicted = (columns[name].astype(np.int64) for name in ("label", f"{prefix}predicted"))
    probability = probability_of(columns, prefix)
    classes = 1 + int(max(label.max(), predicted.max())) if probability is None else probability.shape[1]
    return Predicted(label=label, predicted=predicted, classes=classes, probability=probability)
