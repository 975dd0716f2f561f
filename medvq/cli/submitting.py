"""The command submit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medvq.cli.options import Data, Datasets, DryRun, Json, Only, Runs, Sets, Smoke, StudyName, pairs, print_json

if TYPE_CHECKING:
    from medvq.launch.slurm.decide import Decision

ProfileName = Annotated[
    str,
    typer.Option(
        "--profile", metavar="PROFILE", help="Path of a profile, or its name in ./slurm or among the shipped ones."
    ),
]


def submit(
    study: StudyName,
    profile: ProfileName,
    only: Only = [],  # noqa: B006 - typer copies it
    sets: Sets = [],  # noqa: B006
    smoke: Smoke = False,
    retry: Annotated[bool, typer.Option("--retry", help="Also send runs that failed.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Number of worker processes of a run, over all its nodes.")
    ] = None,
    data: Data = [],  # noqa: B006
    datasets: Datasets = Path("datasets"),
    runs: Runs = Path("runs"),
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send a study to SLURM and return. Runs that are done or queued are not sent again, stopped ones continue.

    medvq submit quickstart --profile gpu --dry-run
    """
    from medvq.config.profile import load_profile
    from medvq.launch.capacity import check_fit
    from medvq.launch.plan import record
    from medvq.launch.slurm import submit as slurm
    from medvq.launch.slurm.decide import summary
    from medvq.launch.start import Request, plan_for
    from medvq.launch.watch import Watch

    place = load_profile(profile)
    slurm.slurm_of(place)  # raises for a local profile before synthetic images are drawn
    request = Request(
        study=study, only=only, sets=sets, smoke=smoke, workers=workers, data=pairs(data), datasets=datasets, runs=runs
    )
    watch = Watch(active=lambda *_: None, ended=lambda *_: None, note=lambda text: typer.echo(text, err=True))
    plan = plan_for(request, None if dry_run else watch)
    check_fit(plan.runs, slurm.slurm_of(place))
    if dry_run:
        decision = slurm.survey(plan, retry=retry, offline=True)
        scripts = slurm.scripts(plan, place, decision)
        if as_json:
            print_json({**summary(plan, decision), "scripts": scripts})
            return
        typer.echo(decision_text(plan.study.name, decision))
        for script in scripts:
            typer.echo(f"\n{script}")
        return
    record(plan)
    decision = slurm.send(plan, place, retry=retry, say=watch.note)
    print_json(summary(plan, decision)) if as_json else typer.echo(decision_text(plan.study.name, decision))


def decision_text(study: str, decision: Decision) -> str:
    """Return what is done with each run as text, one line for each run that is not done."""
    counts: dict[str, int] = {}
    for action in decision.actions.values():
        counts[action] = counts.get(action, 0) + 1
    width = max((len(run) for run in decision.actions), default=0)
    lines = [f"{study}: " + ", ".join(f"{n} {action}" for action, n in counts.items())]
    lines += [f"  {run:<{width}}  {action}" for run, action in decision.actions.items() if action != "done"]
    return "\n".join(lines)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(submit)
