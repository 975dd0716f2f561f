"""From finished runs to the cells of a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvq.config.study import Published, Table
from medvq.config.tables import in_scope
from medvq.files import read_json
from medvq.metrics.bootstrap import mean_std
from medvq.results.compare import Compared, compare
from medvq.results.intervals import interval_of, majority
from medvq.runs.collect import Collected, RunEntry

BASELINE = "majority class"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of a table, and where it came from."""

    row: Any
    column: Any
    mean: float | None
    """Over the runs of the cell."""
    std: float | None
    """Sample standard deviation over the runs; none for a single one."""
    n: int
    """Runs in the cell."""
    ci_low: float | None
    """95 % interval of the mean: test samples, and runs where there are several, drawn again."""
    ci_high: float | None
    published: float | None
    """The paper's number."""
    comparable: bool
    """Whether the published number is of the same data, so that a difference means something."""
    missing: int
    """Runs that give the cell no number: not done, failed, or without such a metric."""
    waiting: int = 0
    """Those of them that may still give one."""
    failed: int = 0
    """Those of them that failed, or need what failed."""
    runs: tuple[str, ...]
    """The runs behind the number."""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A table with its cells, rows and columns in the order of the study."""

    name: str
    table: Table
    rows: list[Any]
    columns: list[Any]
    cells: dict[tuple[Any, Any], Cell]
    smoke: bool
    differences: list[Compared] = field(default_factory=list)
    """Each other row minus the one that the table compares with."""
    mixed: list[str] = field(default_factory=list)
    """Axes other than the one that the table says it is over, in which runs of one cell differ."""
    as_published: dict[str, list[str]] = field(default_factory=dict)
    """The mistakes of the paper that were switched on, and in which jobs."""


def in_order(t: Filled) -> list[Cell]:
    """The cells row by row."""
    return [t.cells[row, column] for row in t.rows for column in t.columns if (row, column) in t.cells]


def fill(collected: Collected, name: str, table: Table) -> Filled:
    """The cells of one table from the runs of a plan."""
    entries = [e for e in collected.entries if in_scope(table, e.job, e.values)]
    groups: dict[tuple[Any, Any], list[RunEntry]] = {}
    for entry in entries:
        row = axis_value(entry, table.rows)
        columns = table.values if table.columns == "metrics" else [axis_value(entry, table.columns)]
        for column in columns:
            groups.setdefault((row, column), []).append(entry)
    cells = {at: _cell(at, found, table, collected.smoke) for at, found in groups.items()}
    rows = list(dict.fromkeys(row for row, _ in groups))
    columns = list(dict.fromkeys(column for _, column in groups))
    if table.baseline == "majority":
        rows.append(BASELINE)
        for column in columns:
            here = [e for (_, c), found in groups.items() if c == column for e in found]
            base = _baseline(column, here, table)
            if base:
                cells[BASELINE, column] = base
    return Filled(
        name=name,
        table=table,
        rows=rows,
        columns=columns,
        cells=cells,
        smoke=collected.smoke,
        differences=_differences(table, groups),
        mixed=_mixed(table, groups.values()),
        as_published=_switched_on(entries),
    )


def _mixed(table: Table, groups: Iterable[Sequence[RunEntry]]) -> list[str]:
    """Axes in which runs of one cell differ, other than the one that the table says it is over."""
    found: set[str] = set()
    for entries in groups if table.over else ():
        axes = {axis for e in entries for axis in e.values} - {table.over, table.rows, table.columns}
        found |= {axis for axis in axes if len({str(e.values.get(axis)) for e in entries}) > 1}
    return sorted(found)


def axis_value(entry: RunEntry, axis: str) -> Any:
    """Where a run stands on an axis of the table; None where its job lacks it."""
    return entry.job if axis == "job" else entry.values.get(axis)


def _cell(at: tuple[Any, Any], entries: Sequence[RunEntry], table: Table, smoke: bool) -> Cell:
    metric = _metric(at, table)
    done = [e for e in entries if e.state == "done" and metric in e.status.metrics]
    failed = sum(e.state in ("failed", "blocked") for e in entries)
    values = [e.status.metrics[metric] for e in done]
    mean, std = mean_std(values) if values else (None, None)
    interval = interval_of([e.folder for e in done], metric)
    published = _published(at, table.published)
    return Cell(
        row=at[0],
        column=at[1],
        mean=mean,
        std=std,
        n=len(values),
        ci_low=interval.low if interval else None,
        ci_high=interval.high if interval else None,
        published=published.value if published else None,
        comparable=published is not None and not smoke and published.dataset in _datasets(entries),
        missing=len(entries) - len(done),
        waiting=sum(e.state != "done" for e in entries) - failed,
        failed=failed,
        runs=tuple(e.run for e in done),
    )


def _metric(at: tuple[Any, Any], table: Table) -> str:
    return str(at[1]) if table.columns == "metrics" else str(table.value)


def _datasets(entries: Sequence[RunEntry]) -> set[str]:
    """Names of the packed datasets that runs read, whatever a study calls them."""
    specs = [read_json(e.folder.spec) or {} for e in entries]
    return {str(ref.get("name")) for spec in specs for ref in spec.get("datasets", {}).values()}


def _switched_on(entries: Sequence[RunEntry]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in entries:
        for switch in (read_json(entry.folder.spec) or {}).get("config", {}).get("as_published", []):
            jobs = found.setdefault(switch, [])
            if entry.job not in jobs:
                jobs.append(entry.job)
    return found


def _differences(table: Table, groups: dict[tuple[Any, Any], list[RunEntry]]) -> list[Compared]:
    """Every row against the one to compare with, where both have runs that are done."""
    found = []
    for (row, column), entries in groups.items():
        theirs = groups.get((table.compare, column))
        if table.compare is None or row == table.compare or theirs is None:
            continue
        ours, base = ([e.folder for e in group if e.state == "done"] for group in (entries, theirs))
        if ours and base:
            found.append(compare(row, table.compare, column, ours, base, _metric((row, column), table)))
    return [f for f in found if f is not None]


def _baseline(column: Any, entries: Sequence[RunEntry], table: Table) -> Cell | None:
    """The same metric for a classifier that always says the training split's largest class."""
    done = [e for e in entries if e.state == "done" and read_json(e.folder.result)]
    metric = str(table.value)
    found = majority(done[0].folder, metric) if done else None
    if found is None:
        return None
    mean, interval = found
    return Cell(
        row=BASELINE,
        column=column,
        mean=mean,
        std=None,
        n=1,
        ci_low=interval.low if interval else None,
        ci_high=interval.high if interval else None,
        published=None,
        comparable=False,
        missing=0,
        runs=(),
    )


def _published(at: tuple[Any, Any], published: Sequence[Published]) -> Published | None:
    return next((p for p in published if p.row == at[0] and p.column == at[1]), None)
