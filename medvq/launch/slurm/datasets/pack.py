"""`medvq shard --profile`: pack a source with SLURM jobs. The dataset is the one that `pack` makes, to the byte.

One array examines the images, one job lays out the shards, one array writes them, one job publishes. The source is
listed by the command itself, which sends jobs only for what an earlier packing has not done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medvq.config.profile import Slurm
from medvq.config.recipe import Recipe
from medvq.errors import MedvqError, StillRunningError
from medvq.launch.slurm import query
from medvq.launch.slurm.datasets.executor import NO_LIMIT, Executor, SlurmTasks, tasks_for
from medvq.launch.slurm.datasets.jobs import (
    Attempt,
    SentJob,
    Submitted,
    active_text,
    last_attempt,
    new_attempt,
    read_failure,
    send,
    shares,
    wait_for_jobs,
)
from medvq.launch.slurm.datasets.pack_tasks import (
    FAILURE,
    LAYOUT,
    LISTED,
    Examine,
    LayOut,
    Packing,
    Publish,
    Write,
    examine_share,
    unwritten,
)
from medvq.launch.slurm.datasets.stored import save, save_source
from medvq.launch.slurm.snapshot import snapshot
from medvq.registry import is_import_path
from medvq.shards.dataset.manifest import MANIFEST, read_manifest
from medvq.shards.pack.examine import PART, known
from medvq.shards.pack.facts import versions
from medvq.shards.pack.pack import pack, report_of
from medvq.shards.pack.phases import fingerprint_of, parts_for
from medvq.shards.pack.report import PackReport
from medvq.shards.pack.workspace import JOBS, Workspace, disk_errors, refuse_other
from medvq.shards.source.resolve import ResolvedSource, must_exist, read_source

Say = Callable[[str], None]
Phases = list[tuple[str, Sequence[Callable[[], None]]]]
"""Names of phases, in order, with their tasks."""
VERDICTS = (2, 3, 5)
"""Exit codes of failures of the layout that trying again does not change: bad samples, leaks, empty splits."""


@dataclass(frozen=True, kw_only=True)
class PackRequest:
    """What the command was asked for."""

    source: Path
    dest: Path
    recipe: Recipe
    profile: str
    """Its name."""
    slurm: Slurm
    array_limit: int = NO_LIMIT
    """The cluster's MaxArraySize."""
    processes: int | None = None
    """Worker processes of a task; None: as many as the profile gives it cores."""
    on_bad: str | None = None
    on_leak: str | None = None


def submit_pack(
    request: PackRequest, say: Say, executor: Callable[..., Executor] = SlurmTasks
) -> PackReport | Submitted:
    """Send jobs for what is missing; if DEST is this dataset already, return its report.

    Args:
        request: what is asked for.
        say: is told how an earlier attempt ended.
        executor: makes what sends tasks, called as `SlurmTasks`.

    Raises:
        NotFoundError, UsageError: as `pack`.
        StillRunningError: jobs of an earlier call wait or run.
        BadSamplesError, LeakError: jobs of an earlier call found bad samples, or a leak.
        SilentError: SLURM does not answer.
        MedvqError: another process packs to DEST, DEST cannot be written, or SLURM refuses the jobs.
    """
    workspace = Workspace(request.dest)
    must_exist(request.source, request.recipe)
    refuse_other(request.dest)
    if (request.dest / MANIFEST).is_file():
        return pack(request.source, request.dest, request.recipe, on_bad=request.on_bad, on_leak=request.on_leak)
    with disk_errors(request.dest):
        workspace.claim()
    old, attempt = workspace.fingerprint is not None, None
    understood: ResolvedSource | None = None
    try:
        understood = read_source(request.source, request.recipe, exclude=[request.dest, workspace.folder])
        packing = _packing(request, fingerprint_of(understood))
        before = last_attempt(workspace.jobs / JOBS)
        if before:
            _tell_how_it_stands(before, workspace, packing, say)
        with disk_errors(request.dest):
            workspace.open(packing.fingerprint)
            understood = replace(understood, source=understood.source.prepared(workspace.arrays))
            save_source(workspace.jobs, understood.source)
            save(workspace.jobs / LISTED, understood, understood.source)
            number = before.number + 1 if before else 1
            phases = missing_phases(understood, workspace, packing, request, number)
            code = snapshot(workspace.jobs, own_code(understood))
            (workspace.jobs / FAILURE).unlink(missing_ok=True)
            attempt = new_attempt(
                workspace.jobs / JOBS, profile=request.profile, options=packing.options, before=before
            )
        tasks = executor(
            request.slurm, folder=attempt.folder, code=code, name=f"pack-{request.dest.name}", key=attempt.key
        )
        return send(phases, tasks, attempt, str(workspace.dest))
    except Exception as e:
        sent = attempt is not None and (attempt.sent or isinstance(e, query.SilentError))
        if not (old or sent):
            workspace.abandon()
        raise
    finally:
        workspace.release()
        if understood is not None:
            understood.source.close()


def _packing(request: PackRequest, fingerprint: str) -> Packing:
    return Packing(
        dest=str(Workspace(request.dest).dest),
        fingerprint=fingerprint,
        versions=versions(),
        processes=request.processes or request.slurm.cpus_per_node,
        on_bad=request.on_bad,
        on_leak=request.on_leak,
    )


def _tell_how_it_stands(before: Attempt, workspace: Workspace, packing: Packing, say: Say) -> None:
    """Say how an earlier attempt ended.

    Raises:
        StillRunningError: it has not ended.
        MedvqError: its jobs still pack something else to the same DEST; or it found what no further attempt changes.
    """
    active = before.active()
    if active:
        what = active_text(active)
        ids = " ".join(dict.fromkeys(task.id.partition("_")[0] for task in active))
        if before.options != packing.options:
            raise MedvqError(
                f"SLURM jobs pack another source, or with other options, to this folder: {what}",
                where=str(workspace.dest),
                hint=f"`scancel {ids}` ends them; or choose another DEST",
            )
        raise StillRunningError(
            f"{progress_text(workspace)}; SLURM jobs {what}",
            where=str(workspace.dest),
            hint=f"add --wait to wait; their logs are in {before.folder}; `scancel {ids}` ends them",
        )
    failure = read_failure(workspace.jobs / FAILURE, packing.options)
    if failure and failure[0] == "layout" and failure[1].code in VERDICTS:
        raise failure[1]
    if before.options == packing.options:
        words = str(failure[1]) if failure else "; ".join(before.last_words()) or "they left no words"
        say(f"the last SLURM jobs ended before the dataset was whole: {words}")


def own_code(understood: ResolvedSource) -> set[str]:
    """Return the import path of the source's class if it is the user's own."""
    container = understood.recipe.container
    return {container} if container and is_import_path(container) else set()


def missing_phases(
    understood: ResolvedSource, workspace: Workspace, packing: Packing, request: PackRequest, attempt: int
) -> Phases:
    """Return the phases that are not done yet, with their tasks; what the tasks read is written."""
    parts = parts_for(understood, workspace)
    done = known(workspace.logs, workspace.parts)
    missing = [part for part in parts if part.number not in done]
    slurm, limit = request.slurm, request.array_limit
    phases: Phases = []
    if missing:
        (workspace.jobs / LAYOUT).unlink(missing_ok=True)
        examiners = tasks_for(slurm, len(missing), limit)
        for number, share in enumerate(shares(len(missing), examiners)):
            save(examine_share(workspace, attempt, number), missing[share], understood.source)
        tasks = [Examine(packing=packing, attempt=attempt, number=number) for number in range(examiners)]
        phases.append(("examine", tasks))
    todo = unwritten(workspace)
    if todo is None:
        writers = tasks_for(slurm, len(parts), limit)
        todo = list(range(writers))
        phases.append(("layout", [LayOut(packing=packing, tasks=writers)]))
    if todo:
        phases.append(("write", [Write(packing=packing, number=number) for number in todo]))
    return [*phases, ("publish", [Publish(packing=packing)])]


def progress_text(workspace: Workspace) -> str:
    """Say how far a packing is, in a few words: `about 320 images examined, 2 shards written`."""
    lines = sum(log.read_bytes().count(b"\n") for log in workspace.logs)
    shards = len(list(workspace.records.glob("*.json")))
    return f"about {lines * PART} images examined, {shards} shards written"


def planned_jobs(samples: int, slurm: Slurm) -> list[SentJob]:
    """Return the jobs that would be sent for a new packing of so many samples; `<1>` stands for the first one's id."""
    parts = -(-samples // PART)
    tasks = tasks_for(slurm, parts)
    numbers = {"examine": tasks, "layout": 1, "write": tasks, "publish": 1}
    return [
        SentJob(phase=phase, job=f"<{i + 1}>", tasks=n, after=f"<{i}>" if i else None)
        for i, (phase, n) in enumerate(numbers.items())
    ]


def wait_for_pack(dest: Path, say: Say) -> PackReport:
    """Wait until the jobs that pack to DEST have ended, and return the report.

    Args:
        dest: where they pack to.
        say: is told once if SLURM does not answer.

    Raises:
        MedvqError: what a job failed of, as `pack`; or the jobs ended before the dataset was whole.
    """
    workspace = Workspace(dest)
    attempt = last_attempt(workspace.jobs / JOBS)
    if attempt:
        wait_for_jobs(attempt, (dest / MANIFEST).is_file, say)
    if not (dest / MANIFEST).is_file():
        failure = attempt and read_failure(workspace.jobs / FAILURE, attempt.options)
        if failure:
            raise failure[1]
        words = "; ".join(attempt.last_words()) if attempt else ""
        raise MedvqError(
            "the SLURM jobs ended before the dataset was whole" + (f": {words}" if words else ""),
            where=str(attempt.folder if attempt else dest),
            hint="give the same command again to go on from what is done",
        )
    if attempt:  # the last job removes the folder that it lies in
        wait_for_jobs(attempt, lambda: not workspace.folder.exists(), say)
    if workspace.folder.is_dir() and workspace.lock():
        workspace.remove()
    return report_of(dest, read_manifest(dest), unchanged=False)


def forget_ended_jobs(dest: Path) -> None:
    """Let a packing here go on from what SLURM jobs left.

    Raises:
        MedvqError: they have not ended, or it is not known whether they have.
    """
    record = Workspace(dest).jobs / JOBS
    attempt = last_attempt(record)
    if attempt is None:
        return
    try:
        active = attempt.active()
    except MedvqError as e:
        hint = f"ask on the cluster; if they have ended, remove {record}"
        raise type(e)(f"SLURM jobs were sent to pack to this folder: {e.error}", where=str(dest), hint=hint) from e
    if active:
        raise MedvqError(
            f"SLURM jobs pack to this folder: {active_text(active)}",
            where=str(dest),
            hint="wait for them, or end them with scancel",
        )
    record.unlink()
