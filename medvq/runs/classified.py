"""What a classifier leaves of the test split: predictions, the confusion matrix, and how each class fared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.runs import metrics
from medvq.runs.atomic import write_json
from medvq.runs.figures import confusion
from medvq.runs.predictions import NAME, classified, write_predictions


def leave_classified(
    folder: Path, keys: list[str], label: NDArray[Any], probability: NDArray[Any], classes: tuple[str, ...]
) -> None:
    """Write predictions.parquet, confusion.png and classes.json.

    Args:
        folder: where to.
        keys: N sample keys.
        label: (N,) positions in `classes`.
        probability: (N, K).
        classes: the K names.
    """
    write_predictions(folder / NAME, classified(keys, label, probability, classes))
    matrix = metrics.confusion(label, probability.argmax(1), len(classes))
    confusion(matrix, list(classes), folder / "confusion.png")
    areas = metrics.class_auc(label, probability)
    rows = [
        {**row, "auc": float(area) if np.isfinite(area) else None}
        for row, area in zip(metrics.per_class(matrix, list(classes)), areas, strict=True)
    ]
    write_json(folder / "classes.json", {"classes": rows, "confusion": matrix.tolist()})
