"""Filled tables for a paper: LaTeX tabulars with rules of the booktabs package."""

from __future__ import annotations

import re
from typing import Any

from medvq.results.cells import Cell, Filled

_ESCAPED = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
ELSEWHERE = r"\textsuperscript{*}"
"""Behind a published number that is of other data."""
ABSENT = "--"


def escaped(text: str) -> str:
    """`text` so that LaTeX prints it as it is, on one line."""
    return re.sub(r"[\\&%$#_{}~^<>|]", lambda m: _ESCAPED[m[0]], " ".join(text.split()))


def as_latex(t: Filled, notes: list[str]) -> str:
    """A `tabular` to include in a paper; published numbers stand in columns of their own, notes in comments."""
    paired = [
        any(c.published is not None for (_, column), c in t.cells.items() if column == name) for name in t.columns
    ]
    comments = [f"{t.name}: {t.table.about}" if t.table.about else t.name, *notes, r"needs \usepackage{booktabs}"]
    if any(c.published is not None and not c.comparable for c in t.cells.values()):
        comments.append("* published for other data")
    lines = ["% " + " ".join(c.split()) for c in comments]
    lines += [rf"\begin{{tabular}}{{l{''.join('rr' if two else 'r' for two in paired)}}}", r"\toprule"]
    corner = t.table.rows if t.table.columns == "metrics" else f"{t.table.rows} \\ {t.table.columns}"
    heads = [rf"\multicolumn{{2}}{{c}}{{{escaped(str(c))}}}" if two else escaped(str(c))
             for c, two in zip(t.columns, paired, strict=True)]  # fmt: skip
    lines.append(_line([escaped(corner), *heads]))
    if any(paired):
        lines.append(_rules(paired))
        lines.append(_line(["", *(part for two in paired for part in (("ours", "published") if two else ("ours",)))]))
    lines.append(r"\midrule")
    for row in t.rows:
        parts = [escaped(str(row))]
        for column, two in zip(t.columns, paired, strict=True):
            cell = t.cells.get((row, column))
            parts += [_ours(cell, t), *([_published(cell, t)] if two else [])]
        lines.append(_line(parts))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _line(parts: list[str]) -> str:
    return " & ".join(parts) + r" \\"


def _rules(paired: list[bool]) -> str:
    out, at = [], 2
    for two in paired:
        if two:
            out.append(rf"\cmidrule(lr){{{at}-{at + 1}}}")
        at += 2 if two else 1
    return " ".join(out)


def _ours(cell: Cell | None, t: Filled) -> str:
    if cell is None or cell.mean is None:
        return ABSENT
    return _number(cell.mean, t) + (rf" $\pm$ {_number(cell.std, t)}" if cell.std is not None else "")


def _published(cell: Cell | None, t: Filled) -> str:
    if cell is None or cell.published is None:
        return ABSENT
    return _number(cell.published, t) + ("" if cell.comparable else ELSEWHERE)


def _number(value: Any, t: Filled) -> str:
    text = f"{100 * value:.1f}" if t.table.percent else f"{value:.4g}"
    mantissa, _, power = text.partition("e")
    # In mathematics a minus is a minus.
    return rf"${mantissa} \times 10^{{{int(power)}}}$" if power else text.replace("-", "$-$")
