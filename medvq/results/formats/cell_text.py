"""Words and numbers of a table's cells, shared by the formats that people read."""

from __future__ import annotations

from typing import Any

from medvq.results.cells import FilledTable

NO_VALUE = "–"


def grid(t: FilledTable) -> list[list[str]]:
    """Return the table as text: the header row, then one list for each row, the row's name first."""
    head = [corner(t), *(str(c) for c in t.columns)]
    return [head, *([str(row), *(_cell(t, row, column) for column in t.columns)] for row in t.rows)]


def corner(t: FilledTable) -> str:
    """Return the text of the top left cell: what the rows and the columns are."""
    return t.table.rows if t.table.columns == "metrics" else f"{t.table.rows} \\ {t.table.columns}"


def notes(t: FilledTable, intervals: bool = True) -> list[str]:
    """Return the notes below a table, one string each: units, differences of rows, and warnings.

    Args:
        t: the table.
        intervals: whether the format shows confidence intervals in its cells.
    """
    unit = "per cent; " if t.table.percent else ""
    cells = "mean"
    if any(c.std is not None for c in t.cells.values()):
        cells += f" ± standard deviation over {t.table.over or 'runs'}"
    if intervals and any(c.ci_low is not None for c in t.cells.values()):
        cells += " [95 % interval]"
    found = [f"{t.table.value or ', '.join(t.table.values)}; {unit}cells: {cells}"]
    if t.mixed:
        found.append(
            f"runs of one cell differ in {', '.join(t.mixed)} as well: put it in rows or columns, or in `where`"
        )
    for d in t.differences:
        if d.value is None or d.low is None or d.high is None or d.p is None:
            found.append(f"{d.row} - {d.than} at {d.column}: not computed, as {d.reason}")
            continue
        interval = f"[{_number(d.low, t, sign=True)}, {_number(d.high, t, sign=True)}]"
        found.append(
            f"{d.row} - {d.than} at {d.column}: {_number(d.value, t, sign=True)} {interval},"
            f" p {'< 0.001' if d.p < 0.001 else f'= {d.p:.2g}'} ({d.test}, {d.n} images)"
        )
    for switch, jobs in t.as_published.items():
        found.append(f"as published, {switch} was on in {', '.join(jobs)}: see `medvq describe`")
    if any(m.endswith("_best_on_test") for m in (t.table.value, *t.table.values) if m):
        found.append("best on test: the test split itself chose the epoch, as the paper did; such numbers are too good")
    if t.smoke:
        found.append("smoke run on synthetic images: these numbers say nothing about the method")
    return found


def _cell(t: FilledTable, row: Any, column: Any) -> str:
    cell = t.cells.get((row, column))
    if cell is None:
        return ""
    unfinished = ", ".join(f"{n} {word}" for n, word in ((cell.failed, "failed"), (cell.waiting, "to do")) if n)
    if cell.mean is None:
        text = f"({unfinished})" if unfinished else NO_VALUE
    else:
        text = _number(cell.mean, t)
        if cell.std is not None:
            text += f" ± {_number(cell.std, t)}"
        if cell.ci_low is not None and cell.ci_high is not None:
            text += f" [{_number(cell.ci_low, t)}, {_number(cell.ci_high, t)}]"
        if unfinished:
            text += f" ({unfinished})"
    if cell.published is not None:
        text += f"; published {_number(cell.published, t)}"
        if cell.mean is not None and cell.comparable:
            text += f", {_number(cell.mean - cell.published, t, sign=True)}"
        elif not cell.comparable:
            text += " on other data"
    return text


def _number(value: float, t: FilledTable, sign: bool = False) -> str:
    spec = "+" if sign else ""
    return f"{100 * value:{spec}.1f}" if t.table.percent else f"{value:{spec}.4g}"
