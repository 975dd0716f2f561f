"""The commands status, wait and logs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from medvq.cli.options import Json, Runs, print_json
from medvq.errors import RunsFailedError, StillRunningError, UsageError, suggest

if TYPE_CHECKING:
    from medvq.runs.collect import Collected

RUNS = Path("runs")
StudyHere = Annotated[
    str | None, typer.Argument(metavar="[STUDY]", help="Name of a study; without one, all studies that have runs.")
]
GOING = ("queued", "running")
"""States of runs that are in progress."""
EVERY = 5.0
"""Seconds between two updates with `--watch`."""
PlanNumber = Annotated[
    str | None, typer.Option("--plan", metavar="N|all", help="Number of a plan; without one, the last plan.")
]


def status(
    study: StudyHere = None,
    state: Annotated[list[str], typer.Option(metavar="STATE", help="Only runs in this state; may be repeated.")] = [],  # noqa: B006
    plan: PlanNumber = None,
    watch: Annotated[bool, typer.Option("--watch", help="Update every 5 s until no run is in progress.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 6 if runs failed, with 8 if runs are in progress.")
    ] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Show the runs of a study's last plan.

    Of each run: state, place, progress, metrics, cost.

    medvq status quickstart --watch
    """
    from medvq.launch.status import text
    from medvq.runs.state import State

    for wanted in state:
        if wanted not in get_args(State):
            raise UsageError(f"no state {wanted!r}", where="--state", hint=suggest(wanted, get_args(State)))
    going_before = True
    while True:
        found = _facts(study, runs, plan)
        if as_json:
            chosen = [{**f, "runs": [r for r in f["runs"] if not state or r["state"] in state]} for f in found]
            print_json(chosen[0] if study else chosen)
        else:
            if watch:
                typer.echo("\033[2J\033[H", nl=False)
            typer.echo("\n\n".join(text(f, tuple(state)) for f in found))
        going = any(r["state"] in GOING for f in found for r in f["runs"])
        if not watch or not (going or going_before):  # between two runs, none is running for a moment
            break
        going_before = going
        time.sleep(EVERY)
    if exit_code:
        _end(found, as_json)


def wait(
    study: StudyHere = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Exit with 8 after this time, such as 90 s or 2 h.")
    ] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Wait until no run is queued or running.

    Exit with 0 if all are done, with 6 if some failed.

    medvq wait quickstart --timeout "8 h"
    """
    from medvq.config.units import seconds
    from medvq.launch.slurm.cluster import HELD

    try:
        end = time.monotonic() + (seconds(timeout) if timeout else float("inf"))
    except ValueError as e:
        raise UsageError(str(e), where="--timeout") from e
    pause = 1.0
    told: set[tuple[str, str]] = set()
    while True:
        found = _facts(study, runs, None)
        going = [r for f in found for r in f["runs"] if r["state"] in GOING]
        held = {(r["run"], r["reason"]) for r in going if r["reason"].startswith(HELD)}
        for run, why in sorted(held - told):
            typer.echo(f"{run}: {why}", err=True)
        told |= held
        if not going or time.monotonic() > end:
            break
        time.sleep(min(pause, max(end - time.monotonic(), 0)))
        pause = min(pause * 1.5, 15.0)
    if as_json:
        print_json(found[0] if study else found)
    _end(found, as_json)


def logs(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or a prefix of it.")],
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Continue to print new lines, also of later attempts.")
    ] = False,
    rank: Annotated[int, typer.Option(help="Rank of the worker.")] = 0,
    attempt: Annotated[int | None, typer.Option(help="Only this attempt.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Print the log of a run over all its attempts.

    The output of SLURM's batch script comes first.

    medvq logs finetune-subset10-seed0 -f
    """
    from medvq.launch.logs import as_data, pieces
    from medvq.runs.find import find_run

    found = find_run(run, runs)
    if as_json:
        if follow:
            raise UsageError("--json cannot follow a log", where="--follow", hint="leave one of the two away")
        print_json({"study": found.path.parent.name, "run": found.name, "logs": as_data(found, rank, attempt)})
        return
    for piece in pieces(found, rank=rank, attempt=attempt, follow=follow):
        typer.echo(piece, nl=False)


def _facts(study: str | None, runs: Path, plan: str | None) -> list[dict[str, Any]]:
    from medvq.launch.slurm.cluster import ask_slurm
    from medvq.launch.status import facts
    from medvq.runs.collect import collect, collect_all, study_folders

    if plan is not None and plan != "all" and not plan.isdigit():
        raise UsageError(f"no plan {plan!r}", where="--plan", hint="a number, or all")
    number = int(plan) if plan and plan != "all" else None
    folders = study_folders(study, runs)
    found: list[Collected] = [collect_all(f) if plan == "all" else collect(f, number) for f in folders]
    cluster = ask_slurm(found)
    return [facts(c, cluster) for c in found]


def _end(found: list[dict[str, Any]], as_json: bool) -> None:
    """Exit with the code for the states of the runs. With JSON output, print no message.

    Raises:
        StillRunningError: runs are queued or running.
        RunsFailedError: runs ended without a result.
    """
    states = [r["state"] for f in found for r in f["runs"]]
    going = sum(s in GOING for s in states)
    bad = sum(s != "done" for s in states)
    if as_json and (going or bad):
        raise typer.Exit(StillRunningError.code if going else RunsFailedError.code)
    if going:
        raise StillRunningError(f"{going} of {len(states)} runs are queued or running")
    if bad:
        raise RunsFailedError(f"{bad} of {len(states)} runs are not done", hint="medvq status")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (status, logs, wait):
        app.command()(command)
