"""The commands run, describe and results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medvq.cli.options import (
    Data,
    Datasets,
    DryRun,
    Json,
    Only,
    Parallel,
    Runs,
    Sets,
    Smoke,
    StudyName,
    TimeBudget,
    duration,
    pairs,
    print_json,
    side_by_side,
)

if TYPE_CHECKING:
    from medvq.launch.start import Request

DATASETS, RUNS = Path("datasets"), Path("runs")


def run(
    study: StudyName,
    only: Only = [],  # noqa: B006 - typer copies it
    sets: Sets = [],  # noqa: B006
    smoke: Smoke = False,
    workers: Annotated[
        int | None, typer.Option(help="Number of worker processes of a run; 0 to train in this process.")
    ] = None,
    parallel: Parallel = "1",
    time_budget: TimeBudget = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy datasets to this folder on a local disk first.")
    ] = None,
    data: Data = [],  # noqa: B006
    datasets: Datasets = DATASETS,
    runs: Runs = RUNS,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run a study on this machine. Runs that are done are kept, stopped ones continue, failed ones are tried again.

    medvq run quickstart
    """
    from medvq.cli.show import plan_text, say_tables, summary
    from medvq.launch.start import execute, plan_for, states_of, unfinished

    request = _request(study, only, sets, smoke, workers, data, datasets, runs, cache)
    at_once, budget = side_by_side(parallel), duration(time_budget)
    if dry_run:
        plan = plan_for(request, None)
        print_json(summary(plan)) if as_json else typer.echo(plan_text(plan))
        return
    from medvq.cli.progress import RunProgress
    from medvq.launch.watch import Watch

    quiet = Watch(active=lambda *_: None, ended=lambda *_: None, note=lambda text: typer.echo(text, err=True))
    plan = plan_for(request, quiet)
    if all(state == "done" for state, _ in states_of(plan).values()):
        typer.echo(f"nothing to do: all {len(plan.runs)} runs of {plan.study.name} are done", err=True)
        stopped = False
    else:
        with RunProgress([spec.run for spec in plan.runs]) as shown:
            watch = Watch(active=shown.active, ended=shown.ended, note=shown.note, starting=shown.starting)
            stopped = execute(plan, watch, parallel=at_once, budget=budget)
    error = unfinished(plan, stopped)
    print_json(summary(plan)) if as_json else say_tables(plan)
    if error is not None and as_json:
        raise typer.Exit(error.code)  # the JSON has said it
    if error is not None:
        raise error


def describe(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Path or name of a study; without one, list the studies.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="Only this job.")] = None,
    sets: Sets = [],  # noqa: B006
    smoke: Smoke = False,
    data: Data = [],  # noqa: B006
    datasets: Datasets = DATASETS,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Show a study without running it.

    That is its configuration, its runs with their steps, layers and parameters.

    medvq describe quickstart --job pretrain
    """
    from medvq.launch import describe as look

    if study is None:
        found = look.studies()
        print_json(found) if as_json else typer.echo(look.studies_text(found))
        return
    request = _request(study, [job] if job else [], sets, smoke, None, data, datasets, runs)
    facts = look.describe(request, job)
    print_json(facts) if as_json else typer.echo(look.text(facts))


def results(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Name of a study; without one, all studies that have runs.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="table|md|csv|tex|json|parquet|MODULE:NAME",
            help="Format; by default that of the suffix of --out, else table.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to a file instead.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Print a study's tables, with the published numbers.

    medvq results quickstart --format md
    """
    from medvq.cli.show import choose_format, filled_tables
    from medvq.runs.collect import study_folders

    chosen = choose_format("json" if as_json else form, out)
    studies = [filled_tables(folder) for folder in study_folders(study, runs)]
    content = chosen.render_all(studies) if study is None else chosen.render(*studies[0])
    if out is None:
        typer.echo(content)
    elif isinstance(content, bytes):
        out.write_bytes(content)
    else:
        out.write_text(content + "\n", encoding="utf-8")


def _request(
    study: str,
    only: list[str],
    sets: list[str],
    smoke: bool,
    workers: int | None,
    data: list[str],
    datasets: Path,
    runs: Path,
    cache: Path | None = None,
) -> Request:
    from medvq.launch.start import Request

    return Request(
        study=study,
        only=only,
        sets=sets,
        smoke=smoke,
        workers=workers,
        cache=cache,
        data=pairs(data),
        datasets=datasets,
        runs=runs,
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (run, describe, results):
        app.command()(command)
