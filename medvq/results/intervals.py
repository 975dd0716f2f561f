"""Intervals of the numbers in a table, from what the runs kept of every image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.files import read_json
from medvq.metrics.bootstrap import Predicted, Resampled, bootstrap, classification_metric, sample_mean
from medvq.metrics.classification import OF_CONFUSION, Interval, summary, wilson
from medvq.runs.artifacts.predictions import read_split
from medvq.runs.folder import RunFolder

CLASSIFIED = {*OF_CONFUSION, "auc"}


def interval_of(folders: Sequence[RunFolder], metric: str) -> Interval | None:
    """The 95 % interval of a metric's mean over runs; None where the runs kept too little for it.

    A single run's accuracy has Wilson's interval; all else a bootstrap over samples and, with several runs, runs.
    """
    kept, name = kept_of(folders, metric), metric.partition("/")[2]
    if not kept:
        return None
    n = len(kept[0]["key"])
    if name in ("accuracy", "knn_accuracy") and len(kept) == 1 and "label" in kept[0]:
        said = kept[0][f"{_prefix(name)}predicted"]
        return wilson(int((kept[0]["label"] == said).sum()), n)
    found = [resampled_of(columns, name) for columns in kept]
    known = [f for f in found if f is not None]
    return bootstrap(known, n) if len(known) == len(found) else None


def kept_of(folders: Sequence[RunFolder], metric: str) -> list[dict[str, NDArray[Any]]]:
    """What runs kept of every image that the metric is of; nothing if one kept none, or other images than the first."""
    found = [read_split(folder.artifacts, metric.partition("/")[0]) for folder in folders]
    there = [columns for columns in found if columns is not None]
    alike = all(np.array_equal(columns["key"], there[0]["key"]) for columns in there)
    return there if len(there) == len(found) and alike else []


def resampled_of(columns: dict[str, NDArray[Any]], name: str) -> Resampled | None:
    """A metric of resampled images; None where what was kept does not give it."""
    prefix = _prefix(name)
    if name.removeprefix(prefix) in CLASSIFIED and f"{prefix}predicted" in columns:
        return classification_metric(name.removeprefix(prefix), _predicted(columns, prefix))
    return sample_mean(columns[name]) if name in columns else None


def majority(folder: RunFolder, metric: str) -> tuple[float, Interval | None] | None:
    """A metric of always answering the largest class of the training split; None where it has no meaning."""
    counts = (read_json(folder.result) or {}).get("train_classes")
    split, _, name = metric.partition("/")
    columns = read_split(folder.artifacts, split)
    if not counts or name not in OF_CONFUSION or columns is None:
        return None
    label = columns["label"].astype(np.int64)
    always = np.full_like(label, int(np.argmax(list(counts.values()))))
    said = Predicted(label=label, predicted=always, classes=len(counts))
    value = summary(label, always, classes=len(counts))[name]
    if name == "accuracy":
        return value, wilson(int((label == always).sum()), len(label))
    return value, bootstrap([classification_metric(name, said)], len(label))


def _prefix(name: str) -> str:
    """What stands before the columns of a probe's neighbours."""
    return "knn_" if name.startswith("knn_") else ""


def _predicted(columns: dict[str, NDArray[Any]], prefix: str = "") -> Predicted:
    shares = [v for k, v in columns.items() if k.startswith(f"{prefix}p:")]
    return Predicted(
        label=columns["label"].astype(np.int64),
        predicted=columns[f"{prefix}predicted"].astype(np.int64),
        classes=len(shares),
        probability=np.stack(shares, 1).astype(np.float64),
    )
