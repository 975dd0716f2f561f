"""What the SLURM jobs of `medvq shard --profile` do: examine, lay out, write, publish.

Every task records what it has done, and may be killed and started again at any moment.
"""

from __future__ import annotations

import atexit
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit.helpers import Checkpointable

from medvq.errors import MedvqError, MissingError
from medvq.files import read_json, write_json
from medvq.launch.slurm.datasets.jobs import shares, write_failure
from medvq.launch.slurm.datasets.stored import load, save
from medvq.launch.slurm.datasets.task import errors_for_people
from medvq.shards.dataset.manifest import MANIFEST
from medvq.shards.pack.examine import ExaminedPart, known
from medvq.shards.pack.facts import versions
from medvq.shards.pack.pack import pack_resolved
from medvq.shards.pack.phases import examine, lay_out, parts_for, shard_task
from medvq.shards.pack.pool import uncollected, working
from medvq.shards.pack.report import ListedError, keep_list
from medvq.shards.pack.workspace import Workspace, disk_errors
from medvq.shards.pack.write import ShardTask, recorded, write_shard
from medvq.shards.source.resolve import ResolvedSource

LISTED, LAYOUT, FAILURE = "listed.pkl", "layout.json", "failure.json"
"""In the workspace's `jobs`: the listed source, how shards are shared out, and why a task failed."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What all tasks of one packing know."""

    dest: str
    fingerprint: str
    """Hash of the source and settings; the workspace must have been made for the same hash."""
    versions: dict[str, str]
    """Of the libraries on which stored bytes depend."""
    processes: int
    """Worker processes of a task."""
    on_bad: str | None
    on_leak: str | None

    @property
    def workspace(self) -> Workspace:
        """The folder beside DEST."""
        return Workspace(Path(self.dest))

    @property
    def options(self) -> dict[str, Any]:
        """Options of the command that its result depends on."""
        return {"fingerprint": self.fingerprint, "on_bad": self.on_bad, "on_leak": self.on_leak}

    def check(self) -> None:
        """Raise an error if the workspace is for something else, or if this node has other libraries."""
        if self.workspace.fingerprint != self.fingerprint:
            raise MedvqError("this folder now belongs to another packing", where=str(self.workspace.folder))
        if versions() != self.versions:
            differ = {n: v for n, v in versions().items() if self.versions.get(n) != v}
            here = ", ".join(f"{name} {version}" for name, version in differ.items())
            raise MissingError(
                f"{socket.gethostname()} has other libraries than the machine that sent the tasks: {here}",
                hint="give every node the same environment, with `python` or `setup` in the profile",
            )


@dataclass(frozen=True, kw_only=True)
class Examine(Checkpointable):
    """Examine a share of the parts."""

    packing: Packing
    attempt: int
    number: int

    def __call__(self) -> None:
        """Examine what the task's own log does not have."""
        with task(self.packing, "examine") as workspace:
            parts: list[ExaminedPart] = load(examine_share(workspace, self.attempt, self.number))
            log = workspace.parts / f"examined-{self.attempt:03d}-{self.number:04d}.jsonl"
            done = known([log] if log.exists() else [], workspace.parts)
            for number, samples in examine([p for p in parts if p.number not in done], log, self.packing.processes):
                print(f"part {number}: {len(samples)} images", flush=True)


@dataclass(frozen=True, kw_only=True)
class LayOut(Checkpointable):
    """Lay the shards out, and give each writing task its share."""

    packing: Packing
    tasks: int

    def __call__(self) -> None:
        """Write the shares, then the note that they are whole."""
        with task(self.packing, "layout") as workspace:
            understood: ResolvedSource = load(workspace.jobs / LISTED)
            parts = parts_for(understood, workspace)
            found = known(workspace.logs, workspace.parts)
            missing = sum(part.number not in found for part in parts)
            if missing:
                raise MedvqError(
                    f"{missing} of {len(parts)} parts are not examined", hint="give the same command again"
                )
            examined = [e for part in parts for e in found[part.number]]
            checked = lay_out(understood, examined, self.packing.on_bad, self.packing.on_leak)
            shards = checked.layout.shards
            files: list[list[str]] = []
            for number, share in enumerate(shares(len(shards), self.tasks)):
                tasks = [shard_task(shard, understood, workspace) for shard in shards[share]]
                save(write_share(workspace, number), tasks, understood.source)
                files.append([task.file for task in tasks])
            write_json(workspace.jobs / LAYOUT, {"files": files})


@dataclass(frozen=True, kw_only=True)
class Write(Checkpointable):
    """Write a share of the shards."""

    packing: Packing
    number: int

    def __call__(self) -> None:
        """Write what is not written."""
        with task(self.packing, "write") as workspace:
            shards: list[ShardTask] = load(write_share(workspace, self.number))
            with working(write_shard, shards, self.packing.processes) as results:
                for _, written in results:
                    print(f"{written.file}: {written.samples} images", flush=True)


@dataclass(frozen=True, kw_only=True)
class Publish(Checkpointable):
    """Write index and manifest, and rename the dataset into place."""

    packing: Packing

    def __call__(self) -> None:
        """Publish, unless an earlier start of the task has; the workspace is removed as the process ends."""
        with task(self.packing, "publish") as workspace:
            if not (workspace.dest / MANIFEST).is_file() and workspace.lock():
                packing = self.packing
                report = pack_resolved(
                    load(workspace.jobs / LISTED), workspace, packing.processes, packing.on_bad, packing.on_leak
                )
                print(f"{report.dataset}: {report.written} images, digest {report.digest}", flush=True)
        atexit.register(_clean, workspace)


def _clean(workspace: Workspace) -> None:
    """Remove the workspace, in which the log of this very process lies."""
    close_output()
    if workspace.locked or workspace.lock():
        workspace.remove()


def close_output() -> None:
    """Let go of the log: a file that is open cannot be removed from a network file system."""
    null = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        os.dup2(null, fd)


@contextmanager
def task(packing: Packing, phase: str) -> Iterator[Workspace]:
    """Give the workspace. Inside this context, an error ends the task and is written down for the command to report."""
    workspace = packing.workspace

    def note(error: MedvqError) -> None:
        if workspace.jobs.is_dir():
            if isinstance(error, ListedError):
                with suppress(OSError):  # the message alone is told then
                    keep_list(error, workspace.dest)
            write_failure(workspace.jobs / FAILURE, phase, error, packing.options)

    with errors_for_people(note), disk_errors(workspace.dest), uncollected():
        if not (workspace.dest / MANIFEST).is_file():
            packing.check()
        yield workspace


def examine_share(workspace: Workspace, attempt: int, number: int) -> Path:
    """Return the file that holds the parts of one examining task."""
    return workspace.jobs / f"examine-{attempt:03d}-{number:04d}.pkl"


def write_share(workspace: Workspace, number: int) -> Path:
    """Return the file that holds the shards of one writing task."""
    return workspace.jobs / f"write-{number:04d}.pkl"


def unwritten(workspace: Workspace) -> list[int] | None:
    """Return the numbers of writing tasks that have shards left to write; None if shards are not laid out yet."""
    layout = read_json(workspace.jobs / LAYOUT)
    if layout is None:
        return None
    out, records = str(workspace.out), str(workspace.records)
    return [n for n, files in enumerate(layout["files"]) if not all(recorded(f, out, records) for f in files)]
