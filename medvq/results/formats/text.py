"""Tables for a terminal: aligned columns of plain text."""

from __future__ import annotations

from collections.abc import Sequence

from medvq.results.cells import FilledTable
from medvq.results.formats.base import TableFormat
from medvq.results.formats.cell_text import grid, notes


class Text(TableFormat):
    """Aligned columns, with the notes of each table below it."""

    suffix = ".txt"

    def render(self, study: str, tables: Sequence[FilledTable]) -> str:
        """Return the tables of one study."""
        return "\n\n".join(_table(t) for t in tables)


def _table(t: FilledTable) -> str:
    rows = grid(t)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"{t.name}{': ' + t.table.about if t.table.about else ''}"]
    for i, row in enumerate(rows):
        lines.append("  " + "   ".join(f"{text:<{w}}" for text, w in zip(row, widths, strict=True)).rstrip())
        if i == 0:
            lines.append("  " + "   ".join("─" * w for w in widths))
    return "\n".join([*lines, *(f"  {note}" for note in notes(t))])
