"""predictions.parquet: what a run found of every test image, so that any metric can be computed again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medvq.runs.atomic import write_atomic

NAME = "predictions.parquet"


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
    shares = {f"p:{name}": probability[:, i] for i, name in enumerate(classes)}
    return {"key": keys, "label": label, "predicted": probability.argmax(1), **shares}
