"""Tables in Markdown, as pipe tables."""

from __future__ import annotations

from collections.abc import Sequence

from medvq.results.cells import FilledTable
from medvq.results.formats.base import TableFormat
from medvq.results.formats.cell_text import grid, notes


class Markdown(TableFormat):
    """Pipe tables, with the notes of each table below it."""

    suffix = ".md"

    def render(self, study: str, tables: Sequence[FilledTable]) -> str:
        """Return the tables of one study."""
        return "\n\n".join(_table(t) for t in tables)


def _table(t: FilledTable) -> str:
    head, *body = grid(t)
    lines = [f"**{t.name}**{': ' + t.table.about if t.table.about else ''}", ""]
    lines += ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join([*lines, "", *notes(t)])
