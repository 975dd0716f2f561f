"""Filled tables as Parquet: one row a cell, for a notebook or another program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvq.results.cells import Filled, in_order


def write_cells(studies: Sequence[tuple[str, Sequence[Filled]]], out: Path) -> None:
    """Write the cells of (study, its tables).

    Columns: study, table, value, row, column, mean, std, n, ci_low, ci_high, published, comparable, missing, runs.

    Raises:
        OSError: `out` cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number, text = pa.float64(), pa.string()
    kinds = {
        "study": text, "table": text, "value": text, "row": text, "column": text, "mean": number, "std": number,
        "n": pa.int64(), "ci_low": number, "ci_high": number, "published": number, "comparable": pa.bool_(),
        "missing": pa.int64(), "runs": pa.list_(text),
    }  # fmt: skip
    rows = [
        {
            **vars(cell),
            "study": study,
            "table": t.name,
            "value": str(cell.column) if t.table.columns == "metrics" else t.table.value,
            "row": str(cell.row),
            "column": str(cell.column),
            "runs": list(cell.runs),
        }
        for study, tables in studies
        for t in tables
        for cell in in_order(t)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items()))), out)
