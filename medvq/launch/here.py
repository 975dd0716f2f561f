"""Doing a plan on this machine: what is done stays done, what stopped goes on, what failed is tried again."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medvq.config.errors import MedvqError
from medvq.config.study import Resources
from medvq.launch.plan import Runs
from medvq.launch.slurm.allocation import allocation
from medvq.runs.atomic import make_folder
from medvq.runs.owner import Busy, Term
from medvq.runs.process import Process
from medvq.runs.spec import RunSpec
from medvq.runs.state import RunStatus, status_of

if TYPE_CHECKING:
    from medvq.train.ray_group import LocalRay

CRASHES = 2
"""How often a run whose process died is started again in one go."""
POLL = 0.2


@dataclass(frozen=True, kw_only=True)
class Room:
    """What this machine has."""

    cores: int
    gpus: int


@dataclass
class Stop:
    """A request to stop, from a signal handler to the workers."""

    file: Path
    asked: bool = False

    def ask(self) -> None:
        """Ask every worker to write a checkpoint and stop."""
        self.asked = True
        self.file.touch()


@dataclass
class Watch:
    """What a person who waits is told."""

    active: Callable[[RunSpec, RunStatus], None]
    """The state of a run under way, a few times a second."""
    ended: Callable[[RunSpec, RunStatus], None]
    """A run has come to an end, good or bad."""
    note: Callable[[str], None]
    """A line of talk."""
    starting: Callable[[int, int], None] = field(default=lambda runs, workers: None)
    """A group of workers is being started for some runs."""


@contextlib.contextmanager
def stopping(shared: Path) -> Iterator[Stop]:
    """A stop request with a place of its own; inside a SLURM job it is in `shared`, which every node sees."""
    process = Process.current()
    prefix = f"medvq-{process.pid}-{process.start}-stop-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=make_folder(shared) if allocation() else None) as folder:
        yield Stop(Path(folder) / "stop")


def run_here(plan: Runs, stop: Stop, watch: Watch) -> dict[str, RunStatus]:
    """Do every run of the plan that is not done, and return the state of all.

    Raises:
        MedvqError: workers cannot be started at all.
    """
    todo = [spec for spec in plan.runs if status_of(plan.folder_of(spec)).state != "done"]
    if todo:
        _work(plan, todo, stop, watch)
    return {spec.run: status_of(plan.folder_of(spec)) for spec in plan.runs}


def _work(plan: Runs, todo: Sequence[RunSpec], stop: Stop, watch: Watch) -> None:
    """Groups of workers, one after the other, until nothing more can be done here."""
    from medvq.train.group import GroupSpec, in_process
    from medvq.train.run import WorkItem

    room = measure()
    shapes = {spec.run: shape_of(spec.config.resources, spec.config.train.batch_size, room) for spec in todo}
    crashes = dict.fromkeys(shapes, 0)
    given_up: set[str] = set()
    holder, term = Process.current().record(), Term.here()
    most = max(workers for workers, _ in shapes.values())
    with _ray(most, room, plan.folder, watch) as ray:
        while not stop.asked:
            ready = _ready(plan, todo, given_up)
            if not ready:
                if not _wait_for_others(plan, todo, given_up, stop, watch):
                    return
                continue
            workers, threads = shapes[ready[0].run]
            batch = [spec for spec in ready if shapes[spec.run] == (workers, threads)]
            group_spec = GroupSpec(workers=workers, threads=threads, gpus=room.gpus > 0)
            items = [
                WorkItem(
                    spec=spec.model_dump(mode="json"),
                    folder=str(plan.folder_of(spec).path.resolve()),
                    holder=holder,
                    term=asdict(term) if term else None,
                )
                for spec in batch
            ]
            watch.starting(len(batch), workers)
            before = {spec.run: status_of(plan.folder_of(spec)).attempts for spec in batch}
            group = ray.start(items, group_spec, stop.file) if workers else in_process(items, group_spec, stop.file)
            _follow(plan, batch, group.wait, watch)
            if group.error is None:
                # A run that was stopped by its own stop file is not taken up again at once.
                given_up |= {s.run for s in batch if status_of(plan.folder_of(s)).state == "stopped"}
            else:
                blamed = _blame(plan, batch, before, crashes, given_up, watch)
                if not blamed:
                    raise MedvqError(f"the workers could not do their work: {group.error}") from group.error


def _ray(workers: int, room: Room, folder: Path, watch: Watch) -> LocalRay:
    """A Ray for the workers: on this machine, or on every node that SLURM gave."""
    from medvq.train.ray_group import LocalRay

    given = allocation()
    if given is None:
        return LocalRay(workers=workers, gpus=room.gpus)
    from medvq.launch.slurm.ray import AllocatedRay

    return AllocatedRay(given, folder, watch.note)


def _ready(plan: Runs, todo: Sequence[RunSpec], given_up: set[str]) -> list[RunSpec]:
    """Runs that can go into the next group: free, and what they need is done or goes before them."""
    fine: set[str] = set()
    ready: list[RunSpec] = []
    for spec in todo:
        status = status_of(plan.folder_of(spec))
        needs = [n.run for n in spec.needs.values()]
        if status.state == "done":
            fine.add(spec.run)
        elif spec.run in given_up or _elsewhere(status):
            continue
        elif all(n in fine or _is_done(plan, n) for n in needs):
            ready.append(spec)
            fine.add(spec.run)
    return ready


def _elsewhere(status: RunStatus) -> Busy | None:
    """Who else works on a run. What this process still seems to hold was left by workers of its that died."""
    holder = status.holder
    if holder is None or (holder.host, holder.pid) == (socket.gethostname(), os.getpid()):
        return None
    return None if holder.yields_to(Term.here()) else holder


def _is_done(plan: Runs, run: str) -> bool:
    return (plan.folder / run / "result.json").exists()


def _follow(plan: Runs, batch: Sequence[RunSpec], wait: Callable[[float], bool], watch: Watch) -> None:
    """Tell of the group's runs until it ends."""
    told: set[str] = set()
    ended = False
    while not ended:
        ended = wait(POLL)
        for spec in batch:
            if spec.run in told:
                continue
            status = status_of(plan.folder_of(spec))
            if status.state == "done" or (ended and status.state in ("failed", "stopped")):
                told.add(spec.run)
                watch.ended(spec, status)
            elif status.holder and status.holder.pid == os.getpid():
                watch.active(spec, status)
                break


def _blame(
    plan: Runs,
    batch: Sequence[RunSpec],
    before: dict[str, int],
    crashes: dict[str, int],
    given_up: set[str],
    watch: Watch,
) -> bool:
    """Find the run that brought a group down; a failure is final here, a dead process is tried again a few times."""
    for spec in batch:
        status = status_of(plan.folder_of(spec))
        if status.state == "done" or status.attempts == before[spec.run]:
            continue
        if status.state == "failed":
            given_up.add(spec.run)
            return True
        crashes[spec.run] += 1
        if crashes[spec.run] > CRASHES:
            given_up.add(spec.run)
            watch.note(
                f"{spec.run}: its process died {crashes[spec.run]} times; giving up. Logs: {plan.folder_of(spec).logs}"
            )
        else:
            watch.note(f"{spec.run}: a process died; starting again from the last checkpoint")
        return True
    return False


def _wait_for_others(plan: Runs, todo: Sequence[RunSpec], given_up: set[str], stop: Stop, watch: Watch) -> bool:
    """Wait while another terminal works on runs that are still wanted; False if there are none."""
    said = False
    while not stop.asked:
        busy = [(s, h) for s in todo if s.run not in given_up and (h := _elsewhere(status_of(plan.folder_of(s))))]
        if not busy:
            return bool(_ready(plan, todo, given_up))
        if not said:
            spec, holder = busy[0]
            watch.note(f"{spec.run} is being done by process {holder.pid} on {holder.host}; waiting for it")
            said = True
        time.sleep(POLL)
    return False


def measure() -> Room:
    """Cores and GPUs that this process may use."""
    import torch

    given = allocation()
    if given is not None:
        return Room(cores=given.cpus * len(given.nodes), gpus=given.gpus * len(given.nodes))
    return Room(cores=len(os.sched_getaffinity(0)), gpus=torch.cuda.device_count())


def shape_of(resources: Resources, batch_size: int, room: Room) -> tuple[int, int]:
    """Workers and threads of a run: as told, else one worker per GPU or core, as many as divide the batch."""
    most = room.gpus or room.cores
    fitting = max(n for n in range(1, most + 1) if batch_size % n == 0)
    workers = fitting if resources.workers == "auto" else resources.workers
    shared_out = max(1, room.cores // max(workers, 1))
    return workers, shared_out if resources.threads == "auto" else resources.threads
