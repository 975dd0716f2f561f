"""What a classifier leaves of the test split: the confusion matrix, and how each class fared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.files import write_json
from medvq.metrics import classification
from medvq.runs.artifacts.figures import confusion


def leave_classified(folder: Path, label: NDArray[Any], probability: NDArray[Any], classes: tuple[str, ...]) -> None:
    """Write confusion.png and classes.json.

    Args:
        folder: where to.
        label: (N,) positions in `classes`.
        probability: (N, K).
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
