"""Check the tables of a study against its jobs: rows, columns and metrics must exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medvq.config.study import Table
from medvq.config.task_info import TaskInfo
from medvq.config.yamlfile import Document
from medvq.errors import Problem, suggest

Facts = tuple[TaskInfo, Mapping[str, Any], Sequence[str]]
"""Task, matrix values and measured splits of one point."""


def in_scope(table: Table, job: str, values: Mapping[str, Any]) -> bool:
    """Return whether a run of `job` at `values` belongs to the table, by its `where`."""
    known = {"job": job, **values}
    return all(
        axis in known and known[axis] in (wanted if isinstance(wanted, list) else [wanted])
        for axis, wanted in table.where.items()
    )


def table_problems(
    tables: Mapping[str, Table], jobs: Mapping[str, Sequence[Facts]], document: Document
) -> list[Problem]:
    """Return the problems in the tables of a study."""
    problems: list[Problem] = []
    axes = {axis for points in jobs.values() for _, values, _ in points for axis in values}
    for name, table in tables.items():

        def wrong(key: str, error: str, known: Iterable[str], name: str = name, word: str = "") -> None:
            problems.append(
                Problem(where=document.where(("tables", name, key)), error=error, hint=suggest(word, known))
            )

        for key, axis in (("rows", table.rows), ("columns", table.columns), *(("where", a) for a in table.where)):
            allowed = axes | {"job"} | ({"metrics"} if key == "columns" else set())
            if axis not in allowed:
                wrong(key, f"no job has the axis {axis!r}", allowed, word=axis)
        if table.over and table.over not in axes:
            wrong("over", f"no job has the axis {table.over!r}", axes, word=table.over)
        wanted = table.where.get("job", [])
        for job in wanted if isinstance(wanted, list) else [wanted]:
            if job not in jobs:
                wrong("where", f"no job named {job!r}", jobs, word=str(job))
        scope = [f for job, points in jobs.items() for f in points if in_scope(table, job, f[1])]
        metrics = {m for task, _, splits in scope for m in task.declared if m.partition("/")[0] in splits}
        rows = {j if table.rows == "job" else f[1].get(table.rows) for j, points in jobs.items() for f in points}
        if table.compare is not None and table.compare not in rows:
            wrong("compare", f"there is no row {table.compare!r}", map(str, rows), word=str(table.compare))
        if table.columns == "metrics" and not table.values:
            wrong("values", "columns that are metrics need a list of values", [])
        if table.columns != "metrics" and table.value is None:
            wrong("value", "this key is required", [])
        for metric in (*table.values, *([table.value] if table.value else [])):
            if scope and metric not in metrics:
                wrong(
                    "values" if metric in table.values else "value",
                    f"no task here gives {metric!r}",
                    metrics,
                    word=metric,
                )
    return problems
