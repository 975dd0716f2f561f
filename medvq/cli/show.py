"""What commands print about plans and results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from medvq.errors import UsageError
from medvq.launch.plan import StudyPlan
from medvq.launch.start import states_of
from medvq.results.cells import Filled, fill
from medvq.results.formats.parquet import write_cells
from medvq.results.render import render
from medvq.runs.collect import collect
from medvq.runs.plan import last_plan


def summary(plan: StudyPlan) -> dict[str, Any]:
    """`{study, plan, runs: [{run, job, values, state, folder, attempts, metrics}]}`."""
    states = states_of(plan)
    recorded = last_plan(plan.folder)
    return {
        "study": plan.study.name,
        "plan": recorded.number if recorded else None,
        "runs": [
            {
                "run": s.run,
                "job": s.job,
                "values": s.values,
                "state": states[s.run][0],
                "folder": str(plan.folder / s.run),
                "attempts": states[s.run][1].attempts,
                "metrics": states[s.run][1].metrics,
            }
            for s in plan.runs
        ],
    }


def plan_text(plan: StudyPlan) -> str:
    """The runs and what would happen to each."""
    does = {"done": "done", "stopped": "goes on", "failed": "is tried again", "running": "is running elsewhere"}
    states = states_of(plan)
    width = max(len(s.run) for s in plan.runs)
    lines = [f"{plan.study.name}: {len(plan.runs)} runs in {plan.folder}"]
    for s in plan.runs:
        needs = f"  needs {', '.join(n.run for n in s.needs.values())}" if s.needs else ""
        lines.append(f"  {s.run:<{width}}  {does.get(states[s.run][0], 'new')}{needs}")
    if any(s.identity is None for s in plan.runs):
        lines.append("identities are open until the dataset is there")
    return "\n".join(lines)


def results_text(folder: Path, form: str) -> str:
    """The tables of a study."""
    return render(*_filled(folder), form)


def write_results(folders: Sequence[Path], out: Path | None) -> None:
    """Write the tables of studies to a Parquet file.

    Raises:
        UsageError: no file is named.
    """
    if out is None:
        raise UsageError("parquet goes to a file", where="--format", hint="add --out FILE.parquet")
    write_cells([_filled(folder) for folder in folders], out)


def _filled(folder: Path) -> tuple[str, list[Filled]]:
    collected = collect(folder)
    return collected.study, [fill(collected, name, table) for name, table in collected.tables.items()]


def say_tables(plan: StudyPlan) -> None:
    """The tables to stdout, and where the pictures are to stderr."""
    typer.echo(results_text(plan.folder, "table"))
    for spec in plan.runs:
        picture = plan.folder_of(spec).artifacts / "reconstructions.png"
        if picture.exists():
            typer.echo(f"reconstructions: {picture}", err=True)
