"""Tables as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from medvq.results.cells import FilledTable, in_order
from medvq.results.formats.base import TableFormat

COLUMNS = ("table", "row", "column", "mean", "std", "n", "ci_low", "ci_high", "published", "missing")


class Csv(TableFormat):
    """One line for each cell, all tables of a study under one header."""

    suffix = ".csv"

    def render(self, study: str, tables: Sequence[FilledTable]) -> str:
        """Return the cells of one study."""
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for t in tables:
            for cell in in_order(t):
                writer.writerow({"table": t.name, **cell.as_record()})
        return out.getvalue().rstrip("\n")
