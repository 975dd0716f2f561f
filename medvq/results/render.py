"""Filled tables as text: for a terminal, as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from medvq.errors import UsageError, suggest
from medvq.results.cells import Cell, Filled, in_order
from medvq.results.formats.latex import as_latex

FORMATS = ("table", "md", "csv", "tex", "json", "parquet")


def render(study: str, tables: Sequence[Filled], form: str) -> str:
    """The tables of a study in one of `FORMATS` that is text (`medvq.results.formats.parquet` writes parquet).

    Raises:
        UsageError: there is no such format.
    """
    if form == "json":
        return json.dumps(as_json(study, tables), indent=1, ensure_ascii=False)
    if form == "csv":
        return as_csv(tables)
    if form == "tex":
        return "\n\n".join(as_latex(t, _notes(t, intervals=False)) for t in tables)
    if form == "md":
        return "\n\n".join(as_markdown(t) for t in tables)
    if form == "table":
        return "\n\n".join(as_text(t) for t in tables)
    raise UsageError(f"unknown format {form!r}", where="--format", hint=suggest(form, FORMATS))


def as_json(study: str, tables: Sequence[Filled]) -> dict[str, Any]:
    """`{study, tables: {NAME: {cells: [{row, column, mean, std, n, ci_low, ci_high, published, missing, …}]}}}`."""
    return {
        "study": study,
        "tables": {
            t.name: {
                "about": t.table.about,
                "rows": t.rows,
                "columns": t.columns,
                "value": t.table.value,
                "over": t.table.over,
                "as_published": t.as_published,
                "differences": [vars(d) for d in t.differences],
                "mixed": t.mixed,
                "cells": [_record(c) for c in in_order(t)],
            }
            for t in tables
        },
    }


def as_csv(tables: Sequence[Filled]) -> str:
    """One line a cell, all tables below each other."""
    names = ["table", "row", "column", "mean", "std", "n", "ci_low", "ci_high", "published", "missing"]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for t in tables:
        for cell in in_order(t):
            writer.writerow({"table": t.name, **_record(cell)})
    return out.getvalue().rstrip("\n")


def as_markdown(t: Filled) -> str:
    """A pipe table."""
    head, *body = _grid(t)
    lines = [f"**{t.name}**{': ' + t.table.about if t.table.about else ''}", ""]
    lines += ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join([*lines, "", *_notes(t)])


def as_text(t: Filled) -> str:
    """Columns of even width."""
    grid = _grid(t)
    widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
    lines = [f"{t.name}{': ' + t.table.about if t.table.about else ''}"]
    for i, row in enumerate(grid):
        lines.append("  " + "   ".join(f"{text:<{w}}" for text, w in zip(row, widths, strict=True)).rstrip())
        if i == 0:
            lines.append("  " + "   ".join("─" * w for w in widths))
    return "\n".join([*lines, *(f"  {note}" for note in _notes(t))])


def _grid(t: Filled) -> list[list[str]]:
    corner = t.table.rows if t.table.columns == "metrics" else f"{t.table.rows} \\ {t.table.columns}"
    head = [corner, *(str(c) for c in t.columns)]
    return [head, *([str(row), *(_cell(t, row, column) for column in t.columns)] for row in t.rows)]


def _cell(t: Filled, row: Any, column: Any) -> str:
    cell = t.cells.get((row, column))
    if cell is None:
        return ""
    waits = [f"{n} {word}" for n, word in ((cell.failed, "failed"), (cell.waiting, "to do")) if n]
    if cell.mean is None:
        text = f"({', '.join(waits)})" if waits else "–"
    else:
        text = _number(cell.mean, t)
        if cell.std is not None:
            text += f" ± {_number(cell.std, t)}"
        if cell.ci_low is not None and cell.ci_high is not None:
            text += f" [{_number(cell.ci_low, t)}, {_number(cell.ci_high, t)}]"
        if waits:
            text += f" ({', '.join(waits)})"
    if cell.published is not None:
        text += f"; published {_number(cell.published, t)}"
        if cell.mean is not None and cell.comparable:
            text += f", {_number(cell.mean - cell.published, t, sign=True)}"
        elif not cell.comparable:
            text += " on other data"
    return text


def _number(value: float, t: Filled, sign: bool = False) -> str:
    spec = "+" if sign else ""
    return f"{100 * value:{spec}.1f}" if t.table.percent else f"{value:{spec}.4g}"


def _notes(t: Filled, intervals: bool = True) -> list[str]:
    unit = "per cent; " if t.table.percent else ""
    cells = "mean"
    if any(c.std is not None for c in t.cells.values()):
        cells += f" ± standard deviation over {t.table.over or 'runs'}"
    if intervals and any(c.ci_low is not None for c in t.cells.values()):
        cells += " [95 % interval]"
    notes = [f"{t.table.value or ', '.join(t.table.values)}; {unit}cells: {cells}"]
    if t.mixed:
        notes.append(
            f"runs of one cell differ in {', '.join(t.mixed)} as well: put it in rows or columns, or in `where`"
        )
    for d in t.differences:
        interval = f"[{_number(d.low, t, sign=True)}, {_number(d.high, t, sign=True)}]"
        notes.append(
            f"{d.row} - {d.than} at {d.column}: {_number(d.value, t, sign=True)} {interval},"
            f" p {'< 0.001' if d.p < 0.001 else f'= {d.p:.2g}'} ({d.test}, {d.n} images)"
        )
    for switch, jobs in t.as_published.items():
        notes.append(f"as published, {switch} was on in {', '.join(jobs)}: see `medvq describe`")
    if any(m.endswith("_best_on_test") for m in (t.table.value, *t.table.values) if m):
        notes.append("best on test: the test split itself chose the epoch, as the paper did; such numbers are too good")
    if t.smoke:
        notes.append("smoke run on synthetic images: these numbers say nothing about the method")
    return notes


def _record(cell: Cell) -> dict[str, Any]:
    names = ("row", "column", "mean", "std", "n", "ci_low", "ci_high", "published", "comparable", "missing", "failed")
    return {**{n: getattr(cell, n) for n in names}, "runs": list(cell.runs)}
