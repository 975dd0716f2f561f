"""What commands print about plans and results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from medvq.errors import UsageError
from medvq.launch.plan import StudyPlan
from medvq.launch.start import states_of
from medvq.results.cells import FilledTable, fill_all
from medvq.results.formats.base import TableFormat, find_format, format_of_file
from medvq.runs.collect import collect
from medvq.runs.plan import last_plan


def summary(plan: StudyPlan) -> dict[str, Any]:
    """Return `{study, plan, runs: [{run, job, values, state, folder, attempts, metrics}]}`."""
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
    """Return the runs of a plan and what would happen to each, as text."""
    does = {"done": "done", "stopped": "goes on", "failed": "is tried again", "running": "is running elsewhere"}
    states = states_of(plan)
    width = max(len(s.run) for s in plan.runs)
    lines = [f"{plan.study.name}: {len(plan.runs)} runs in {plan.folder}"]
    for s in plan.runs:
        needs = f"  needs {', '.join(n.run for n in s.needs.values())}" if s.needs else ""
        lines.append(f"  {s.run:<{width}}  {does.get(states[s.run][0], 'new')}{needs}")
    if any(s.identity is None for s in plan.runs):
        lines.append("identities are unknown until the dataset exists")
    return "\n".join(lines)


def choose_format(name: str | None, out: Path | None) -> TableFormat:
    """Return the format with this name; without a name, the one that the suffix of `out` stands for.

    Raises:
        UsageError: there is no such format, or it is binary and no file is given.
    """
    try:
        form = find_format(name or (format_of_file(out) if out else "table"))
    except UsageError as e:
        raise UsageError(e.error, where="--format", hint=e.hint) from e
    if form.binary and out is None:
        raise UsageError(f"{name} goes to a file", where="--format", hint=f"add --out FILE{form.suffix}")
    return form


def filled_tables(folder: Path) -> tuple[str, list[FilledTable]]:
    """Return the name of the study whose runs are in `folder`, and its tables."""
    collected = collect(folder)
    return collected.study, fill_all(collected)


def say_tables(plan: StudyPlan) -> None:
    """Print the tables of a plan to stdout, and the paths of the reconstructions to stderr."""
    typer.echo(choose_format("table", None).render(*filled_tables(plan.folder)))
    for spec in plan.runs:
        picture = plan.folder_of(spec).artifacts / "reconstructions.png"
        if picture.exists():
            typer.echo(f"reconstructions: {picture}", err=True)
