"""Files of a classifier's test split: the confusion matrix and the metrics of each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.files import write_json
from medvq.metrics import classification
from medvq.runs.artifacts.figures import confusion


def write_classified(folder: Path, label: NDArray[Any], probability: NDArray[Any], classes: tuple[str, ...]) -> None:
    """Write confusion.png and classes.json.

    Args:
        folder: folder to write to.
        label: (N,) positions in `classes`.
        probability: (N, K), rows that sum to 1.
        classes: the K names.
    """
    matrix = classification.confusion(label, probability.argmax(1), len(classes))
    confusion(matrix, list(classes), folder / "confusion.png")
    areas = classification.class_auc(label, probability)
    rows = [
        {**row, "auc": float(area) if np.isfinite(area) else None}
        for row, area in zip(classification.per_class(matrix, list(classes)), areas, strict=True)
    ]
    write_json(folder / "classes.json", {"classes": rows, "confusion": matrix.tolist()})
