"""Tables as Parquet, for a notebook or another program."""

from __future__ import annotations

import io
from collections.abc import Sequence

from medvq.results.cells import FilledTable, in_order
from medvq.results.formats.base import TableFormat


class Parquet(TableFormat):
    """One row for each cell, all tables of all studies in one file.

    Columns: study, table, value, row, column, mean, std, n, ci_low, ci_high, published, comparable, missing, runs.
    """

    suffix = ".parquet"
    binary = True

    def render(self, study: str, tables: Sequence[FilledTable]) -> bytes:
        """Return a file with the cells of one study."""
        return self.render_all([(study, tables)])

    def render_all(self, studies: Sequence[tuple[str, Sequence[FilledTable]]]) -> bytes:
        """Return a file with the cells of several studies."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        number, text = pa.float64(), pa.string()
        types = {
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
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(types.items()))), out)
        return out.getvalue()
