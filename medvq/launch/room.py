"""What this machine has, and how runs share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from medvq.config.profile import Slurm
from medvq.config.study import Resources
from medvq.errors import MedvqError, MissingError, UsageError
from medvq.launch.slurm.allocation import allocation
from medvq.processes import usable_cores
from medvq.runs.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class Room:
    """What there is for one run at a time."""

    cores: int
    gpus: int
    nodes: int = 0
    """Of the SLURM job, in which Ray gives no more than there is; 0 outside one, where workers may share cores."""

    @property
    def places(self) -> int:
        """Workers that fit: one for each GPU, else one for each core."""
        return self.gpus or self.cores

    def of(self, resources: Resources) -> Room:
        """What a run with these resources has of it.

        Raises:
            MissingError: it asks for GPUs, and there are none.
        """
        if resources.gpus_per_worker == 1 and not self.gpus:
            raise MissingError(
                "resources.gpus_per_worker is 1, and torch finds no GPU here",
                hint="take auto, which goes without where there are none; `medvq doctor` tells what torch finds",
            )
        return replace(self, gpus=0) if resources.gpus_per_worker == 0 else self

    def shared(self, runs: int) -> Room:
        """What each of `runs` side by side has."""
        return replace(self, cores=max(1, self.cores // runs), gpus=self.gpus // runs)


def measure() -> Room:
    """Cores and GPUs that this process may use."""
    import torch

    given = allocation()
    if given is not None:
        return Room(cores=given.cpus * len(given.nodes), gpus=given.gpus * len(given.nodes), nodes=len(given.nodes))
    return Room(cores=usable_cores(), gpus=torch.cuda.device_count())


def shape_of(resources: Resources, batch_size: int, room: Room) -> tuple[int, int]:
    """Workers and threads of a run: as told, else one worker per GPU or core, as many as divide the batch.

    `batch_size` is what is computed at once: the global batch, or a part of it where gradients are accumulated.

    Raises:
        UsageError: more workers are asked for than there are GPUs for, or than the SLURM job has cores for.
        MissingError: GPUs are asked for, and there are none.
    """
    room = room.of(resources)
    fitting = max(n for n in range(1, room.places + 1) if batch_size % n == 0)
    workers = fitting if resources.workers == "auto" else resources.workers
    if room.gpus and workers > room.gpus:
        raise UsageError(
            f"{workers} workers of one GPU each, and there are {room.gpus}",
            hint="take --workers auto, or resources.gpus_per_worker: 0 to train on cores",
        )
    if room.nodes and workers > room.cores:
        raise UsageError(
            f"{workers} workers, and the SLURM job has {room.cores} cores",
            hint="take --workers auto, or a profile with more cpus_per_node",
        )
    shared_out = max(1, room.cores // max(workers, 1))
    return workers, shared_out if resources.threads == "auto" else resources.threads


def shape_of_run(spec: RunSpec, room: Room) -> tuple[int, int]:
    """`shape_of` a run.

    Raises:
        UsageError, MissingError: as `shape_of`; or torchrun is to reach over several nodes.
    """
    train, resources = spec.config.train, spec.config.resources
    try:
        workers, threads = shape_of(resources, train.batch_size // train.accumulate, room)
        if workers and resources.launcher == "torchrun" and room.nodes > 1:
            raise UsageError("torchrun starts workers on one node only", hint="set resources.launcher to ray")
    except MedvqError as e:
        raise type(e)(e.error, where=f"job {spec.job}", hint=e.hint) from e
    return workers, threads


def check_fit(specs: Sequence[RunSpec], slurm: Slurm) -> None:
    """Whether runs can be done in SLURM jobs of this kind.

    Raises:
        UsageError, MissingError: as `shape_of_run`.
    """
    nodes = slurm.nodes
    room = Room(cores=slurm.cpus_per_node * nodes, gpus=slurm.gpus_per_node * nodes, nodes=nodes)
    for spec in specs:
        shape_of_run(spec, room)


def side_by_side(wanted: int | Literal["auto"], todo: Sequence[RunSpec], room: Room) -> int:
    """How many runs go at a time, never more than there are places.

    `auto` is as many as have workers' worth of places, and no more than could ever be ready together. A run that
    leaves the number of its workers open then gets what its share of the machine has. In a SLURM job, and without
    workers of their own, one goes after the other.
    """
    asked = [spec.config.resources for spec in todo]
    if wanted == "auto" and (room.nodes or any(r.workers == 0 for r in asked)):
        return 1
    places = min(room.of(resources).places for resources in asked)
    fitting = places // max([1, *(r.workers for r in asked if isinstance(r.workers, int))])
    return max(1, min(places, min(fitting, _width(todo)) if wanted == "auto" else wanted))


def _width(todo: Sequence[RunSpec]) -> int:
    """The most runs that are as many needs away from the first ones; `todo` has needs first."""
    depth: dict[str, int] = {}
    for spec in todo:
        depth[spec.run] = max((depth[n.run] + 1 for n in spec.needs.values() if n.run in depth), default=0)
    counts = list(depth.values())
    return max(map(counts.count, counts), default=1)
