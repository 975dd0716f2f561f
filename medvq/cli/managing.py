"""The commands cancel, retry, prune and doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medvq.cli.options import DryRun, Json, Runs, print_json
from medvq.errors import MedvqError, MissingError, NotFoundError, UsageError

RUNS = Path("runs")
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def cancel(
    names: Annotated[
        list[str], typer.Argument(metavar="STUDY|RUN...", help="Names of studies, or prefixes of names of runs.")
    ],
    yes: Yes = False,
    runs: Runs = RUNS,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Cancel queued and running runs, on SLURM and here. They keep a checkpoint and can be continued later.

    medvq cancel quickstart
    """
    from medvq.launch import cancel as cancelling

    targets = cancelling.find_targets(names, runs, _say, dry_run=dry_run)
    lines = targets.lines()
    if not lines:
        _say("nothing of it is queued or running")
    elif dry_run or not as_json:
        typer.echo("\n".join(lines), err=not dry_run)
    if lines and not dry_run:
        _ask(f"end {len(lines)} runs?", yes)
        cancelling.cancel(targets)
    if as_json:
        print_json({"cancelled": targets.names()})


def retry(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study that was submitted before.")],
    failed: Annotated[bool, typer.Option("--failed", help="Also send runs that failed.")] = False,
    profile: Annotated[
        str | None, typer.Option(help="Profile to use instead of the one of the last submission.")
    ] = None,
    runs: Runs = RUNS,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send runs of a study's last plan again.

    These are the runs that are neither done nor queued nor running.

    medvq retry quickstart --failed
    """
    from medvq.cli.submitting import decision_text
    from medvq.config.profile import load_profile
    from medvq.launch.capacity import check_fit
    from medvq.launch.slurm import manage, submit
    from medvq.launch.slurm.decide import summary
    from medvq.runs.collect import study_folders

    (folder,) = study_folders(study, runs)
    place = load_profile(profile) if profile else manage.profile_of_last(folder)
    if place is None:
        raise NotFoundError(f"{study} was never submitted", hint=f"medvq submit {study} --profile PROFILE")
    plan = manage.planned_runs(folder)
    check_fit(plan.runs, submit.slurm_of(place))
    if dry_run:
        seen = submit.survey(plan, retry=failed, offline=True)
    else:
        seen = submit.send(plan, place, retry=failed, say=_say)
    print_json(summary(plan, seen)) if as_json else typer.echo(decision_text(folder.name, seen))


def prune(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Name of a study; without one, all studies.")
    ] = None,
    yes: Yes = False,
    runs: Runs = RUNS,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove runs that only older plans contain.

    Copies of code that no open run uses are removed, too.

    medvq prune --dry-run
    """
    from medvq.launch.slurm.prune import garbage, remove
    from medvq.runs.collect import study_folders

    found = garbage(runs, study_folders(study, runs), say=_say)
    if not as_json:
        for item in found:
            typer.echo(f"{item.bytes / 1e6:8.1f} MB  {item.path}  {item.why}")
    if not found:
        _say("nothing to remove")
    elif not dry_run:
        _ask(f"remove {len(found)} folders?", yes)
        remove(found)
    if as_json:
        print_json({"removed": [{"path": str(g.path), "bytes": g.bytes, "why": g.why} for g in found]})


def doctor(
    profile: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="Profile of a cluster to check as well.")
    ] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Check whether this machine can run medvq.

    For what is wrong it says how to fix it.

    medvq doctor --profile gpu
    """
    from medvq.launch.doctor import examine

    found = examine(profile, runs)
    if as_json:
        print_json({"checks": [{"level": c.level, "what": c.what, "mend": c.mend} for c in found]})
    else:
        for check in found:
            typer.echo(f"{check.level:<4}  {check.what}" + (f"\n      {check.mend}" if check.mend else ""))
    if any(c.level == "fail" for c in found):
        raise typer.Exit(MissingError.code)


def _say(text: str) -> None:
    """Print a message to stderr."""
    typer.echo(text, err=True)


def _ask(question: str, yes: bool) -> None:
    """Ask the user for confirmation.

    Raises:
        UsageError: there is no terminal to ask on.
        MedvqError: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this needs a confirmation", hint="use --yes in scripts")
    if not typer.confirm(question):
        raise MedvqError("nothing was done")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (cancel, retry, prune, doctor):
        app.command()(command)
