"""The cells of a table, computed from the runs of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvq.config.study import Published, Table
from medvq.config.tables import in_scope
from medvq.files import read_json
from medvq.metrics.bootstrap import mean_std
from medvq.results.compare import RowDifference, compare
from medvq.results.intervals import interval_of, majority
from medvq.runs.collect import Collected, RunEntry

BASELINE = "majority class"
Position = tuple[Any, Any]
"""Row and column of a cell."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of a table and the runs that it comes from."""

    row: Any
    column: Any
    mean: float | None
    """Mean over the runs of the cell; None if no run has the metric yet."""
    std: float | None
    """Sample standard deviation over the runs (ddof = 1); None for fewer than two runs."""
    n: int
    """Number of runs that the mean is taken over."""
    ci_low: float | None
    """Lower end of the 95 % interval of the mean. Test samples are resampled and, if there are several, runs."""
    ci_high: float | None
    """Upper end of the interval."""
    published: float | None
    """The number printed in the paper."""
    comparable: bool
    """Whether the published number is for the same data, so that a difference has a meaning."""
    missing: int
    """Number of runs without a value: not done, failed, or without this metric."""
    waiting: int = 0
    """Number of missing runs that may still give a value."""
    failed: int = 0
    """Number of missing runs that failed or need a run that failed."""
    runs: tuple[str, ...]
    """Names of the runs that the mean is taken over."""

    def as_record(self) -> dict[str, Any]:
        """Return the cell as JSON data."""
        names = (
            "row",
            "column",
            "mean",
            "std",
            "n",
            "ci_low",
            "ci_high",
            "published",
            "comparable",
            "missing",
            "failed",
        )
        return {**{n: getattr(self, n) for n in names}, "runs": list(self.runs)}


@dataclass(frozen=True, kw_only=True)
class FilledTable:
    """A table of a study with its cells."""

    name: str
    table: Table
    """The table as the study declares it."""
    rows: list[Any]
    """Names of the rows, in the order of the study."""
    columns: list[Any]
    """Names of the columns, in the order of the study."""
    cells: dict[Position, Cell]
    """Cells by (row, column); combinations without a run are absent."""
    smoke: bool
    """Whether the runs are smoke runs on synthetic images."""
    differences: list[RowDifference] = field(default_factory=list)
    """Each other row minus the row that the table compares with."""
    mixed: list[str] = field(default_factory=list)
    """Axes in which runs of one cell differ although the table does not average over them."""
    as_published: dict[str, list[str]] = field(default_factory=dict)
    """Mistakes of the paper that were reproduced, each with the jobs that reproduced it."""


def in_order(t: FilledTable) -> list[Cell]:
    """Return the cells row by row."""
    return [t.cells[row, column] for row in t.rows for column in t.columns if (row, column) in t.cells]


def fill_all(collected: Collected) -> list[FilledTable]:
    """Return every table of a plan with its cells."""
    return [fill(collected, name, table) for name, table in collected.tables.items()]


def fill(collected: Collected, name: str, table: Table) -> FilledTable:
    """Return one table with the cells that the runs of a plan give."""
    places = [place for e in collected.entries for place in e.places()]
    entries = [e for e in places if in_scope(table, e.job, e.values)]
    groups: dict[Position, list[RunEntry]] = {}
    for entry in entries:
        row = axis_value(entry, table.rows)
        columns = table.values if table.columns == "metrics" else [axis_value(entry, table.columns)]
        for column in columns:
            group = groups.setdefault((row, column), [])
            if all(other.folder != entry.folder for other in group):
                group.append(entry)
    cells = {at: _cell(at, found, table, collected.smoke) for at, found in groups.items()}
    rows = list(dict.fromkeys(row for row, _ in groups))
    columns = list(dict.fromkeys(column for _, column in groups))
    if table.baseline == "majority":
        rows.append(BASELINE)
        for column in columns:
            in_column = [e for (_, c), found in groups.items() if c == column for e in found]
            baseline = _baseline(column, in_column, table)
            if baseline:
                cells[BASELINE, column] = baseline
    return FilledTable(
        name=name,
        table=table,
        rows=rows,
        columns=columns,
        cells=cells,
        smoke=collected.smoke,
        differences=_differences(table, groups),
        mixed=_mixed(table, groups.values()),
        as_published=_as_published(entries),
    )


def _mixed(table: Table, groups: Iterable[Sequence[RunEntry]]) -> list[str]:
    """Return the axes, other than `over`, in which runs of one cell differ."""
    found: set[str] = set()
    for entries in groups if table.over else ():
        axes = {axis for e in entries for axis in e.values} - {table.over, table.rows, table.columns}
        found |= {axis for axis in axes if len({str(e.values.get(axis)) for e in entries}) > 1}
    return sorted(found)


def axis_value(entry: RunEntry, axis: str) -> Any:
    """Return the value of a run on an axis of the table; None if its job does not have this axis."""
    return entry.job if axis == "job" else entry.values.get(axis)


def _cell(at: Position, entries: Sequence[RunEntry], table: Table, smoke: bool) -> Cell:
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


def _metric(at: Position, table: Table) -> str:
    return str(at[1]) if table.columns == "metrics" else str(table.value)


def _datasets(entries: Sequence[RunEntry]) -> set[str]:
    """Return the names that the packed datasets of some runs carry, not the names used in the study."""
    specs = [read_json(e.folder.spec) or {} for e in entries]
    return {str(ref.get("name")) for spec in specs for ref in spec.get("datasets", {}).values()}


def _as_published(entries: Sequence[RunEntry]) -> dict[str, list[str]]:
    """Return the jobs in which each mistake of the paper was reproduced."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        for switch in (read_json(entry.folder.spec) or {}).get("config", {}).get("as_published", []):
            jobs = found.setdefault(switch, [])
            if entry.job not in jobs:
                jobs.append(entry.job)
    return found


def _differences(table: Table, groups: dict[Position, list[RunEntry]]) -> list[RowDifference]:
    """Compare every row with the reference row in each column where both have finished runs."""
    found = []
    for (row, column), entries in groups.items():
        reference = groups.get((table.compare, column))
        if table.compare is None or row == table.compare or reference is None:
            continue
        ours, theirs = ([e.folder for e in group if e.state == "done"] for group in (entries, reference))
        if ours and theirs:
            found.append(compare(row, table.compare, column, ours, theirs, _metric((row, column), table)))
    return [f for f in found if f is not None]


def _baseline(column: Any, entries: Sequence[RunEntry], table: Table) -> Cell | None:
    """Return the metric of a classifier that always predicts the largest class of the training split."""
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


def _published(at: Position, published: Sequence[Published]) -> Published | None:
    return next((p for p in published if p.row == at[0] and p.column == at[1]), None)
