"""cancel, retry, prune, doctor."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from medvq.cli.options import DryRun, Json, Runs, print_json
from medvq.errors import MedvqError, MissingError, NotFoundError, UsageError

RUNS = Path("runs")
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def cancel(
    names: Annotated[list[str], typer.Argument(metavar="STUDY|RUN...", help="Studies, or beginnings of runs' names.")],
    yes: Yes = False,
    runs: Runs = RUNS,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """End runs that are queued or running, on SLURM and here; a checkpoint is kept and they can go on later.

    [dim]medvq cancel quickstart[/]
    """
    from medvq.launch.slurm import manage
    from medvq.launch.watch import cancel_study
    from medvq.runs.commands import Driver, announced_runs
    from medvq.runs.folder import RunFolder
    from medvq.runs.owner import holder_of

    wanted, whole = _named(names, runs)
    tasks: dict[str, str] = {}
    here: list[RunFolder] = []
    waiting: dict[RunFolder, Driver] = {}
    for study, members in wanted.items():
        sent = manage.sent_runs(study, members, None if dry_run else lambda text: typer.echo(text, err=True))
        tasks |= {run: q.id for run, q in sent.queued.items()}
        here += [RunFolder(study / run) for run in members if run not in sent.queued]
        drivers = announced_runs(study)
        waiting |= {
            RunFolder(study / run): drivers[run] for run in members if run in drivers and run not in sent.queued
        }
        for run, theirs in sent.unsure.items():
            typer.echo(f"{run}: {theirs.sender_name} sent it; SLURM does not tell whether it has ended", err=True)
    live = [f for f in here if holder_of(f.owner)]
    waiting = {f: d for f, d in waiting.items() if f not in live and not f.result.exists()}
    for folder in [f for f in waiting if f.path.parent not in whole]:
        typer.echo(f"{folder.name}: its turn comes in {waiting.pop(folder)}; cancel the study to end that", err=True)
    # A job of `sbatch` by hand would begin again, or go on with the next run, if only this run was stopped.
    jobs = {f: holder.term.job for f in live if (holder := holder_of(f.owner)) and holder.term}
    jobs |= {f: d.job for f, d in waiting.items() if d.job}
    lines = [f"{run}  SLURM job {task}" for run, task in tasks.items()]
    lines += [f"{f.name}  " + (f"SLURM job {jobs[f]}, whole" if f in jobs else "running here") for f in live]
    lines += [f"{f.name}  its turn comes in {d}" for f, d in waiting.items()]
    if not lines:
        typer.echo("nothing of it is queued or running", err=True)
    elif dry_run or not as_json:
        typer.echo("\n".join(lines), err=not dry_run)
    if lines and not dry_run:
        _ask(f"end {len(lines)} runs?", yes)
        manage.cancel([*tasks.values(), *dict.fromkeys(jobs.values())])
        for folder in [*live, *waiting]:
            if folder in jobs:
                continue
            if folder in waiting or (folder.path.parent in whole and holder_of(folder.owner)):
                cancel_study(folder.path.parent)  # what does this run would go on with the next
            else:
                manage.stop_here(folder)
    if as_json:
        print_json({"cancelled": [*tasks, *(f.name for f in [*live, *waiting])]})


def _named(names: Sequence[str], runs: Path) -> tuple[dict[Path, list[str]], set[Path]]:
    """Names of runs by their study's folder, and the studies that were named as a whole."""
    from medvq.runs.find import find_run
    from medvq.runs.plan import last_plan

    wanted: dict[Path, list[str]] = {}
    whole: set[Path] = set()
    for name in names:
        plan = last_plan(runs / name)
        if plan:
            whole.add(runs / name)
            wanted.setdefault(runs / name, []).extend(r["run"] for r in plan.runs)
        else:
            found = find_run(name, runs).path
            wanted.setdefault(found.parent, []).append(found.name)
    return wanted, whole


def retry(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study that was submitted before.")],
    failed: Annotated[bool, typer.Option("--failed", help="Also what failed, not only what stopped.")] = False,
    profile: Annotated[str | None, typer.Option(help="Another profile than that of the last time.")] = None,
    runs: Runs = RUNS,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send runs of a study's last plan again that are not done, not queued and not running.

    [dim]medvq retry quickstart --failed[/]
    """
    from medvq.cli.submitting import outlook_text
    from medvq.config.profile import load_profile
    from medvq.launch.room import check_fit
    from medvq.launch.slurm import manage, submit
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
        seen = submit.send(plan, place, retry=failed, say=lambda text: typer.echo(text, err=True))
    print_json(submit.summary(plan, seen)) if as_json else typer.echo(outlook_text(folder.name, seen))


def prune(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="Only this study.")] = None,
    yes: Yes = False,
    runs: Runs = RUNS,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove runs that are in older plans only, and copies of code that no open run uses.

    [dim]medvq prune --dry-run[/]
    """
    from medvq.launch.slurm.prune import garbage, remove
    from medvq.runs.collect import study_folders

    found = garbage(runs, study_folders(study, runs), say=lambda text: typer.echo(text, err=True))
    if not as_json:
        for item in found:
            typer.echo(f"{item.bytes / 1e6:8.1f} MB  {item.path}  {item.why}")
    if not found:
        typer.echo("nothing to remove", err=True)
    elif not dry_run:
        _ask(f"remove {len(found)} folders?", yes)
        remove(found)
    if as_json:
        print_json({"removed": [{"path": str(g.path), "bytes": g.bytes, "why": g.why} for g in found]})


def doctor(
    profile: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="A cluster's profile to check as well.")
    ] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Say what is installed and whether it will work, each line with its mend.

    [dim]medvq doctor --profile gpu[/]
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


def _ask(question: str, yes: bool) -> None:
    """Ask before something is ended or removed.

    Raises:
        UsageError: nobody can be asked.
        MedvqError: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this needs a yes", hint="give --yes in scripts")
    if not typer.confirm(question):
        raise MedvqError("nothing was done")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (cancel, retry, prune, doctor):
        app.command()(command)
