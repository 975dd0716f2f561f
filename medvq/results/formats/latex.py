"""Tables for a paper: LaTeX tabulars with the rules of the booktabs package."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medvq.results.cells import Cell, FilledTable
from medvq.results.formats.base import TableFormat
from medvq.results.formats.cell_text import corner, notes

_ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
OTHER_DATA = r"\textsuperscript{*}"
"""Marks a published number that was measured on other data."""
NO_VALUE = "--"


class Latex(TableFormat):
    """A `tabular` for each table; published numbers have columns of their own, notes are comments."""

    suffix = ".tex"

    def render(self, study: str, tables: Sequence[FilledTable]) -> str:
        """Return the tables of one study."""
        return "\n\n".join(_table(t) for t in tables)


def escape(text: str) -> str:
    """Return `text` with LaTeX's special characters escaped and line breaks replaced by spaces."""
    return re.sub(r"[\\&%$#_{}~^<>|]", lambda m: _ESCAPES[m[0]], " ".join(text.split()))


def _table(t: FilledTable) -> str:
    paired = [
        any(c.published is not None for (_, column), c in t.cells.items() if column == name) for name in t.columns
    ]
    comments = [f"{t.name}: {t.table.about}" if t.table.about else t.name, *notes(t, intervals=False)]
    comments.append(r"needs \usepackage{booktabs}")
    if any(c.published is not None and not c.comparable for c in t.cells.values()):
        comments.append("* published for other data")
    lines = ["% " + " ".join(c.split()) for c in comments]
    lines += [rf"\begin{{tabular}}{{l{''.join('rr' if two else 'r' for two in paired)}}}", r"\toprule"]
    heads = [rf"\multicolumn{{2}}{{c}}{{{escape(str(c))}}}" if two else escape(str(c))
             for c, two in zip(t.columns, paired, strict=True)]  # fmt: skip
    lines.append(_line([escape(corner(t)), *heads]))
    if any(paired):
        lines.append(_rules(paired))
        lines.append(_line(["", *(part for two in paired for part in (("ours", "published") if two else ("ours",)))]))
    lines.append(r"\midrule")
    for row in t.rows:
        parts = [escape(str(row))]
        for column, two in zip(t.columns, paired, strict=True):
            cell = t.cells.get((row, column))
            parts += [_ours(cell, t), *([_published(cell, t)] if two else [])]
        lines.append(_line(parts))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _line(parts: list[str]) -> str:
    return " & ".join(parts) + r" \\"


def _rules(paired: list[bool]) -> str:
    """Return a rule below each heading that spans two columns."""
    out, at = [], 2
    for two in paired:
        if two:
            out.append(rf"\cmidrule(lr){{{at}-{at + 1}}}")
        at += 2 if two else 1
    return " ".join(out)


def _ours(cell: Cell | None, t: FilledTable) -> str:
    if cell is None or cell.mean is None:
        return NO_VALUE
    return _number(cell.mean, t) + (rf" $\pm$ {_number(cell.std, t)}" if cell.std is not None else "")


def _published(cell: Cell | None, t: FilledTable) -> str:
    if cell is None or cell.published is None:
        return NO_VALUE
    return _number(cell.published, t) + ("" if cell.comparable else OTHER_DATA)


def _number(value: float, t: FilledTable) -> str:
    text = f"{100 * value:.1f}" if t.table.percent else f"{value:.4g}"
    mantissa, _, power = text.partition("e")
    # In math mode a hyphen is printed as a minus sign.
    return rf"${mantissa} \times 10^{{{int(power)}}}$" if power else text.replace("-", "$-$")
