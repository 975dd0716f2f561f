"""Pack and verify datasets with SLURM jobs: `medvq shard` and `medvq verify` with --profile."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from medvq.cli.options import print_json
from medvq.config.profile import Slurm, load_profile
from medvq.config.recipe import Recipe
from medvq.errors import StillRunningError, UsageError
from medvq.extras import require

if TYPE_CHECKING:
    from medvq.launch.slurm.datasets.jobs import SentJob, Submitted
    from medvq.shards.dataset.verify import Finding


def pack_on_cluster(
    source: Path,
    dest: Path,
    settings: Recipe,
    *,
    processes: int,
    on_bad: str | None,
    on_leak: str | None,
    profile: str,
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> dict[str, Any] | None:
    """Send the jobs that pack a source, or say with `dry_run` which these are.

    Returns:
        The report, as JSON data, if DEST is packed; None if jobs were sent, which is printed.

    Raises:
        UsageError: the profile does not fit.
    """
    require("submitit", "packing on a cluster", where="--profile")
    from medvq.launch.slurm.datasets.executor import array_limit
    from medvq.launch.slurm.datasets.jobs import Submitted
    from medvq.launch.slurm.datasets.pack import PackRequest, planned_jobs, submit_pack, wait_for_pack

    name, slurm = _cluster(profile)
    if dry_run:
        from medvq.shards.pack.preview import facts_of_source

        facts = facts_of_source(source, settings)
        _say_plan(facts, planned_jobs(facts["samples"], slurm), profile, slurm, as_json)
        return None
    request = PackRequest(
        source=source,
        dest=dest,
        recipe=settings,
        profile=name,
        slurm=slurm,
        array_limit=array_limit(),
        processes=processes or None,
        on_bad=on_bad,
        on_leak=on_leak,
    )
    try:
        found = submit_pack(request, _note)
    except StillRunningError as e:
        if not wait:
            raise
        _note(f"{e.error}; waiting")
    else:
        if not isinstance(found, Submitted):
            return dict(vars(found))
        _say_submitted(found, as_json=as_json and not wait, wait=wait)
        if not wait:
            return None
    return dict(vars(wait_for_pack(dest, _note)))


def verify_on_cluster(
    dest: Path, *, deep: bool, profile: str, wait: bool, dry_run: bool, as_json: bool
) -> list[Finding] | None:
    """Send the jobs that verify a dataset, or say with `dry_run` which these are.

    Returns:
        What is wrong with the dataset, if all of it was checked; None if jobs were sent, which is printed.

    Raises:
        UsageError: the profile does not fit. NotFoundError: there is no dataset.
    """
    require("submitit", "verifying on a cluster", where="--profile")
    from medvq.launch.slurm.datasets.executor import array_limit
    from medvq.launch.slurm.datasets.jobs import Submitted
    from medvq.launch.slurm.datasets.verify import VerifyRequest, planned_jobs, submit_verify, wait_for_verify
    from medvq.shards.dataset.manifest import read_manifest

    name, slurm = _cluster(profile)
    if dry_run:
        manifest = read_manifest(dest)
        facts = {"text": f"shards     {len(manifest.shards)}", "shards": len(manifest.shards)}
        _say_plan(facts, planned_jobs(manifest, slurm), profile, slurm, as_json)
        return None
    request = VerifyRequest(dest=dest, deep=deep, profile=name, slurm=slurm, array_limit=array_limit())
    try:
        found = submit_verify(request, _note)
    except StillRunningError as e:
        if not wait:
            raise
        _note(f"{e.error}; waiting")
    else:
        if not isinstance(found, Submitted):
            return found
        _say_submitted(found, as_json=as_json and not wait, wait=wait)
        if not wait:
            return None
    return wait_for_verify(dest, _note)


def refuse_wait(wait: bool) -> None:
    """Raise UsageError if there is nothing to wait for, because nothing is sent to a cluster."""
    if wait:
        raise UsageError("there is nothing to wait for without --profile", where="--wait", hint="leave --wait away")


def _cluster(profile: str) -> tuple[str, Slurm]:
    """The name of a profile, and what it asks SLURM for.

    Raises:
        UsageError: it is no profile of a cluster, or it asks for GPUs.
    """
    from medvq.launch.slurm.datasets.executor import check_profile

    found = load_profile(profile)
    return found.name, check_profile(found)


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _say_plan(facts: dict[str, Any], jobs: list[SentJob], profile: str, slurm: Slurm, as_json: bool) -> None:
    """Print what would be sent."""
    if as_json:
        asks = slurm.model_dump(mode="json", exclude_none=True)
        print_json({**facts, "profile": profile, "slurm": asks, "jobs": [asdict(job) for job in jobs]})
        return
    each = f"{slurm.cpus_per_node} cores, {slurm.memory_words}, {slurm.time}"
    where = f"partition {slurm.partition}" if slurm.partition else "the default partition"
    typer.echo("\n".join([facts["text"], f"would send to SLURM, to {where}, {each} for each task", *_lines(jobs)]))


def _say_submitted(found: Submitted, *, as_json: bool, wait: bool) -> None:
    """Print what was sent: to stdout if that is the result, to stderr if more follows."""
    if as_json:
        print_json(asdict(found))
        return
    more = [] if wait else ["the same command tells how far they are, and the result; with --wait it waits for it"]
    lines = [f"{found.dataset}: sent to SLURM", *_lines(found.sent), f"logs are in {found.logs}", *more]
    typer.echo("\n".join(lines), err=wait)


def _lines(jobs: list[SentJob]) -> list[str]:
    return [
        f"  {job.job:<8} {job.phase:<8} {job.tasks} task{'s' if job.tasks > 1 else ''}"
        + (f", after {job.after}" if job.after else "")
        for job in jobs
    ]
