"""What a run found of every measured image, so that any metric can be computed again: a file for each split."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.files import write_atomic

NAME = "predictions.parquet"
"""Of the test split; that of another one is called `predictions-SPLIT.parquet`."""


def name_of(split: str) -> str:
    """The file of a split."""
    return NAME if split == "test" else f"predictions-{split}.parquet"


def read_split(artifacts: Path, split: str) -> dict[str, NDArray[Any]] | None:
    """The columns by name of a split, or of several such as `val+test`; None where nothing was kept."""
    paths = [artifacts / name_of(part) for part in split.split("+")]
    if not all(path.exists() for path in paths):
        return None
    parts = [read_predictions(path) for path in paths]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_predictions(path: Path, columns: dict[str, Any]) -> None:
    """One row a sample; `columns` are aligned lists or arrays (N,), the first of them `key`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())


def read_predictions(path: Path) -> dict[str, NDArray[Any]]:
    """The columns by name, (N,) each; text as Python objects."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def classified(
    keys: list[str], label: NDArray[Any], probability: NDArray[Any], classes: tuple[str, ...]
) -> dict[str, Any]:
    """The columns of a classifier: key, label and predicted (positions in `classes`), and p:<class> for each class.

    Args:
        keys: sample keys, N of them.
        label: (N,) positions in `classes`.
        probability: (N, K) rows that sum to 1.
        classes: the K names.
    """
    return {"key": keys, "label": label, **said(probability, classes)}


def said(probability: NDArray[Any], classes: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    """The columns `predicted` (N,) and p:<class> of probabilities (N, K), each after `prefix`."""
    shares = {f"{prefix}p:{name}": probability[:, i] for i, name in enumerate(classes)}
    return {f"{prefix}predicted": probability.argmax(1), **shares}
