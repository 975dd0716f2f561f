"""`medvq verify --profile`: check a dataset with an array of SLURM jobs, and gather what they find."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from submitit.helpers import Checkpointable

from medvq.config.profile import Slurm
from medvq.errors import DataError, MedvqError, StillRunningError
from medvq.files import make_folder
from medvq.launch.slurm.datasets.executor import NO_LIMIT, Executor, SlurmTasks, tasks_for
from medvq.launch.slurm.datasets.jobs import (
    Attempt,
    SentJob,
    Submitted,
    active_text,
    last_attempt,
    new_attempt,
    send,
    shares,
    wait_for_jobs,
)
from medvq.launch.slurm.datasets.task import errors_for_people
from medvq.launch.slurm.snapshot import snapshot
from medvq.shards.dataset.manifest import MANIFEST, Manifest, read_manifest
from medvq.shards.dataset.verify import Finding, shard_checker, verify_rest
from medvq.shards.pack.pool import working

Say = Callable[[str], None]
REST = -1
"""Stands for the index, and for files that the manifest does not name, among the numbers of shards."""


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """What the command was asked for."""

    dest: Path
    deep: bool
    profile: str
    """Its name."""
    slurm: Slurm
    array_limit: int = NO_LIMIT
    """The cluster's MaxArraySize."""


@dataclass(frozen=True, kw_only=True)
class CheckShards(Checkpointable):
    """Check a share of the shards."""

    dest: str
    digest: str
    """Of the dataset's manifest, so that another dataset is not taken for it."""
    deep: bool
    numbers: list[int]
    log: str
    """The task's own log: a line of JSON for each shard."""

    processes: int
    """Worker processes of the task."""

    def __call__(self) -> None:
        """Check what the log does not have."""
        dataset, log = Path(self.dest), Path(self.log)
        with errors_for_people():
            manifest = read_manifest(dataset)
            if manifest_digest(dataset) != self.digest:
                raise DataError("the dataset was replaced since the jobs were sent", where=self.dest)
        checked = findings_in([log])
        todo = [number for number in self.numbers if number not in checked]
        check_shard = shard_checker(dataset, manifest, deep=self.deep)

        def check(number: int) -> list[Finding]:
            return verify_rest(dataset, manifest) if number == REST else check_shard(number)

        with (
            errors_for_people(),
            open(log, "a", encoding="utf-8") as lines,
            working(check, todo, self.processes) as found,
        ):
            for place, findings in found:
                lines.write("\n" + json.dumps({"shard": todo[place], "found": [asdict(f) for f in findings]}))
                lines.flush()
                for finding in findings:
                    print(": ".join(filter(None, [finding.shard, finding.key, finding.problem])), flush=True)


def submit_verify(
    request: VerifyRequest, say: Say, executor: Callable[..., Executor] = SlurmTasks
) -> list[Finding] | Submitted:
    """Return what the jobs of an earlier call found, once they have checked everything; else send what is missing.

    Args:
        request: what is asked for.
        say: is told how an earlier attempt ended.
        executor: makes what sends tasks, called as `SlurmTasks`.

    Raises:
        NotFoundError: there is no dataset. MissingError: it was written by a newer medvq.
        StillRunningError: jobs of an earlier call wait or run.
        SilentError: SLURM does not answer.
        MedvqError: the folder beside DEST cannot be written, or SLURM refuses the jobs.
    """
    try:
        manifest = read_manifest(request.dest)
    except DataError as e:
        return [Finding(MANIFEST, None, e.error)]
    folder = folder_of(request.dest)
    options: dict[str, Any] = {"digest": manifest_digest(request.dest), "deep": request.deep}
    before = last_attempt(folder / "jobs.json")
    if before:
        found = _earlier(before, manifest, options, request.dest, say)
        if found is not None:
            return found
    if before is None or before.options != options:
        shutil.rmtree(folder, ignore_errors=True)
        before = None
    make_folder(folder)
    code = snapshot(folder)
    attempt = new_attempt(folder / "jobs.json", profile=request.profile, options=options, before=before)
    done = findings_in(logs_in(folder))
    todo = [n for n in (REST, *range(len(manifest.shards))) if n not in done]
    tasks = [
        CheckShards(
            dest=os.path.abspath(request.dest),
            digest=options["digest"],
            deep=request.deep,
            numbers=todo[share],
            processes=request.slurm.cpus_per_node,
            log=str(folder / f"found-{attempt.number:03d}-{number:04d}.jsonl"),
        )
        for number, share in enumerate(shares(len(todo), tasks_for(request.slurm, len(todo), request.array_limit)))
    ]
    sender = executor(
        request.slurm, folder=attempt.folder, code=code, name=f"verify-{request.dest.name}", key=attempt.key
    )
    return send([("verify", tasks)], sender, attempt, str(request.dest))


def _earlier(
    before: Attempt, manifest: Manifest, options: dict[str, Any], dest: Path, say: Say
) -> list[Finding] | None:
    """Return what an earlier attempt found; None if it did not check everything, or something else.

    Raises:
        StillRunningError: it has not ended. MedvqError: nor has it, and it checks something else.
    """
    found = gathered(before, manifest) if before.options == options else None
    if found is not None:
        say(f"found by the SLURM jobs of {time.strftime('%Y-%m-%d %H:%M', time.localtime(before.content['time']))}")
        shutil.rmtree(before.path.parent, ignore_errors=True)
        return found
    active = before.active()
    if not active:
        if before.options == options:
            say(f"the last SLURM jobs ended before all was checked: {'; '.join(before.last_words())}")
        return None
    what = active_text(active)
    ids = " ".join(dict.fromkeys(task.id.partition("_")[0] for task in active))
    if before.options != options:
        raise MedvqError(
            f"SLURM jobs verify another dataset that was here, or with other options: {what}",
            where=str(dest),
            hint=f"wait for them, or end them: `scancel {ids}`",
        )
    done = len(findings_in(logs_in(before.path.parent)).keys() - {REST})
    raise StillRunningError(
        f"{done} of {len(manifest.shards)} shards checked; SLURM jobs {what}",
        where=str(dest),
        hint=f"add --wait to wait; their logs are in {before.folder}; `scancel {ids}` ends them",
    )


def wait_for_verify(dest: Path, say: Say) -> list[Finding]:
    """Wait until the jobs that check DEST have ended, and return what they found.

    Raises:
        MedvqError: they ended before all was checked.
    """
    folder, manifest = folder_of(dest), read_manifest(dest)
    attempt = last_attempt(folder / "jobs.json")
    if attempt is None:
        raise MedvqError("no SLURM jobs were sent to verify this dataset", where=str(dest))
    wait_for_jobs(attempt, lambda: gathered(attempt, manifest) is not None, say)
    found = gathered(attempt, manifest)
    if found is None:
        raise MedvqError(
            f"the SLURM jobs ended before all was checked: {'; '.join(attempt.last_words())}",
            where=str(attempt.folder),
            hint="give the same command again to go on from what is done",
        )
    shutil.rmtree(folder, ignore_errors=True)
    return found


def planned_jobs(manifest: Manifest, slurm: Slurm) -> list[SentJob]:
    """Return the jobs that would be sent to verify a dataset; `<1>` stands for the id."""
    return [SentJob(phase="verify", job="<1>", tasks=tasks_for(slurm, len(manifest.shards) + 1))]


def gathered(attempt: Attempt, manifest: Manifest) -> list[Finding] | None:
    """Return what all tasks found, in the order of the manifest; None if something is not checked yet."""
    found = findings_in(logs_in(attempt.path.parent))
    numbers = (REST, *range(len(manifest.shards)))
    return [f for n in numbers for f in found[n]] if all(n in found for n in numbers) else None


def findings_in(logs: Sequence[Path]) -> dict[int, list[Finding]]:
    """Read what logs say, by the number of the shard; torn lines are skipped."""
    found: dict[int, list[Finding]] = {}
    for line in (line for log in logs if log.exists() for line in log.read_text(encoding="utf-8").splitlines()):
        try:
            about = json.loads(line)
            found[about["shard"]] = [Finding(**f) for f in about["found"]]
        except (ValueError, KeyError, TypeError):
            continue
    return found


def logs_in(folder: Path) -> list[Path]:
    """Return the logs of all tasks."""
    return sorted(folder.glob("found-*.jsonl"))


def folder_of(dest: Path) -> Path:
    """Return the hidden folder beside DEST in which jobs keep what they find."""
    path = Path(os.path.abspath(dest))
    return path.parent / f".{path.name}.verifying"


def manifest_digest(dest: Path) -> str:
    """Return the sha256 of the manifest, which names the checksums of all other files."""
    return hashlib.sha256((dest / MANIFEST).read_bytes()).hexdigest()
