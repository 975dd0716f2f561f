"""Per-image rows of a run, one Parquet file for each split, so that any metric can be computed again.

A file has one row for each measured image and a column `key`. Any other column with a number is a quantity of the
image, such as its squared error. A classifier writes its predictions as columns with a common prefix, which may be
empty: `label` (shared by all classifiers of a run), `<prefix>predicted` and `<prefix>p:<class>` for each class. Its
metrics are called `<prefix>accuracy` and so on, so that readers find the columns of a metric without knowing the task.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.files import write_atomic

NAME = "predictions.parquet"
"""File of the test split; the file of another split is called `predictions-SPLIT.parquet`."""
PREDICTED = "predicted"
"""Column of the predicted class, after the classifier's prefix."""


def name_of(split: str) -> str:
    """Return the file name of a split."""
    return NAME if split == "test" else f"predictions-{split}.parquet"


def read_split(artifacts: Path, split: str) -> dict[str, NDArray[Any]] | None:
    """Read the columns of a split, or of several joined by `+`, such as `val+test`; None if a file is absent."""
    paths = [artifacts / name_of(part) for part in split.split("+")]
    if not all(path.exists() for path in paths):
        return None
    parts = [read_predictions(path) for path in paths]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_predictions(path: Path, columns: dict[str, Any]) -> None:
    """Write one row for each sample; `columns` are aligned lists or arrays (N,), the first of them `key`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())


def read_predictions(path: Path) -> dict[str, NDArray[Any]]:
    """Read the columns by name, (N,) each; text columns hold Python objects."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def classifier_columns(probability: NDArray[Any], classes: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    """Return the columns of one classifier: `<prefix>predicted` (N,) and `<prefix>p:<class>` (N,) for each class.

    Args:
        probability: (N, K) rows that sum to 1.
        classes: the K names.
        prefix: tells the classifiers of one run apart; its metrics start with the same prefix.
    """
    shares = {f"{prefix}p:{name}": probability[:, i] for i, name in enumerate(classes)}
    return {f"{prefix}{PREDICTED}": probability.argmax(1), **shares}


def classifier_prefixes(columns: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return the prefixes of the classifiers whose predictions are among the columns."""
    return [name.removesuffix(PREDICTED) for name in columns if name.endswith(PREDICTED) and "label" in columns]


def probability_of(columns: Mapping[str, NDArray[Any]], prefix: str) -> NDArray[np.float64] | None:
    """Return the probabilities (N, K) of the classifier with this prefix; None if it wrote none."""
    shares = [values for name, values in columns.items() if name.startswith(f"{prefix}p:")]
    return np.stack(shares, 1).astype(np.float64) if shares else None
