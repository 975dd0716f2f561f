"""Intervals of the numbers in a table, from what the runs kept of every test image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.results.stats import Predicted, Resampled, bootstrap, classification, sample_mean
from medvq.runs.atomic import read_json
from medvq.runs.folder import RunFolder
from medvq.runs.metrics import OF_CONFUSION, Interval, summary, wilson
from medvq.runs.predictions import NAME, read_predictions

CLASSIFIED = {*OF_CONFUSION, "auc"}


def interval_of(folders: Sequence[RunFolder], metric: str) -> Interval | None:
    """The 95 % interval of a test metric's mean over runs; None where the runs kept too little for it.

    A single run's accuracy has Wilson's interval; all else a bootstrap over test samples and, with several runs, runs.
    """
    kept, name = kept_of(folders, metric), metric.partition("/")[2]
    if not kept:
        return None
    n = len(kept[0]["key"])
    if name == "accuracy" and len(kept) == 1:
        return wilson(int((kept[0]["label"] == kept[0]["predicted"]).sum()), n)
    found = [resampled_of(columns, name) for columns in kept]
    known = [f for f in found if f is not None]
    return bootstrap(known, n) if len(known) == len(found) else None


def kept_of(folders: Sequence[RunFolder], metric: str) -> list[dict[str, NDArray[Any]]]:
    """What runs kept of every test image; nothing if one kept none, or the metric is not of the test split."""
    paths = [folder.artifacts / NAME for folder in folders]
    if not metric.startswith("test/") or not all(p.exists() for p in paths):
        return []
    return [read_predictions(p) for p in paths]


def resampled_of(columns: dict[str, NDArray[Any]], name: str) -> Resampled | None:
    """A metric of resampled test images; None where what was kept does not give it."""
    if name in CLASSIFIED and "predicted" in columns:
        return classification(name, _predicted(columns))
    return sample_mean(columns[name]) if name in columns else None


def majority(folder: RunFolder, metric: str) -> tuple[float, Interval | None] | None:
    """A test metric of always answering the largest class of the training split; None where it has no meaning."""
    counts = (read_json(folder.result) or {}).get("train_classes")
    path = folder.artifacts / NAME
    split, _, name = metric.partition("/")
    if not counts or split != "test" or name not in OF_CONFUSION or not path.exists():
        return None
    label = read_predictions(path)["label"].astype(np.int64)
    always = np.full_like(label, int(np.argmax(list(counts.values()))))
    said = Predicted(label=label, predicted=always, classes=len(counts))
    value = summary(label, always, classes=len(counts))[name]
    if name == "accuracy":
        return value, wilson(int((label == always).sum()), len(label))
    return value, bootstrap([classification(name, said)], len(label))


def _predicted(columns: dict[str, NDArray[Any]]) -> Predicted:
    shares = [v for k, v in columns.items() if k.startswith("p:")]
    return Predicted(
        label=columns["label"].astype(np.int64),
        predicted=columns["predicted"].astype(np.int64),
        classes=len(shares),
        probability=np.stack(shares, 1).astype(np.float64),
    )
