"""The cores and GPUs of this machine or SLURM job, and how runs share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from medvq.config.profile import Slurm
from medvq.config.study import Resources
from medvq.errors import MedvqError, MissingError, UsageError
from medvq.launch.allocation.allocation import allocation
from medvq.processes import usable_cores
from medvq.runs.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Cores and GPUs for one run at a time."""

    cores: int
    gpus: int
    nodes: int = 0
    """Nodes of the SLURM job, in which Ray hands out no more cores than there are. 0 outside of SLURM jobs, where
    workers may share cores."""

    @property
    def places(self) -> int:
        """Number of workers that fit: one per GPU or, without GPUs, one per core."""
        return self.gpus or self.cores

    def of(self, resources: Resources) -> Capacity:
        """Return what a run with these resources may use.

        Raises:
            MissingError: the run asks for GPUs, and there are none.
        """
        if resources.gpus_per_worker == 1 and not self.gpus:
            raise MissingError(
                "resources.gpus_per_worker is 1, and torch finds no GPU here",
                hint="set it to auto, which uses GPUs only if there are any; `medvq doctor` shows what torch finds",
            )
        return replace(self, gpus=0) if resources.gpus_per_worker == 0 else self

    def shared(self, runs: int) -> Capacity:
        """Return the share of each of `runs` that go side by side."""
        return replace(self, cores=max(1, self.cores // runs), gpus=self.gpus // runs)


def measure() -> Capacity:
    """Return the cores and GPUs that this process may use."""
    import torch

    given = allocation()
    if given is not None:
        return Capacity(cores=given.cpus * len(given.nodes), gpus=given.gpus * len(given.nodes), nodes=len(given.nodes))
    return Capacity(cores=usable_cores(), gpus=torch.cuda.device_count())


def shape_of(resources: Resources, batch_size: int, capacity: Capacity) -> tuple[int, int]:
    """Return the number of workers of a run, and of threads of each worker.

    `auto` is the largest number of workers that divides the batch and leaves each its own GPU or core.

    Args:
        resources: what the run asks for.
        batch_size: images that are computed at once: the global batch, or a part of it if gradients are accumulated.
        capacity: what there is.

    Raises:
        UsageError: there are fewer GPUs than workers, or the SLURM job has fewer cores than workers.
        MissingError: the run asks for GPUs, and there are none.
    """
    capacity = capacity.of(resources)
    fitting = max(n for n in range(1, capacity.places + 1) if batch_size % n == 0)
    workers = fitting if resources.workers == "auto" else resources.workers
    if capacity.gpus and workers > capacity.gpus:
        raise UsageError(
            f"{workers} workers of one GPU each, and there are {capacity.gpus}",
            hint="take --workers auto, or resources.gpus_per_worker: 0 to train on cores",
        )
    if capacity.nodes and workers > capacity.cores:
        raise UsageError(
            f"{workers} workers, and the SLURM job has {capacity.cores} cores",
            hint="take --workers auto, or a profile with more cpus_per_node",
        )
    shared_out = max(1, capacity.cores // max(workers, 1))
    return workers, shared_out if resources.threads == "auto" else resources.threads


def shape_of_run(spec: RunSpec, capacity: Capacity) -> tuple[int, int]:
    """Return the number of workers of a run, and of threads of each worker.

    Raises:
        UsageError, MissingError: as `shape_of`; also UsageError if torchrun would have to use several nodes.
    """
    train, resources = spec.config.train, spec.config.resources
    try:
        workers, threads = shape_of(resources, train.batch_size // train.accumulate, capacity)
        if workers and resources.launcher == "torchrun" and capacity.nodes > 1:
            raise UsageError("torchrun starts workers on one node only", hint="set resources.launcher to ray")
    except MedvqError as e:
        raise type(e)(e.error, where=f"job {spec.job}", hint=e.hint) from e
    return workers, threads


def check_fit(specs: Sequence[RunSpec], slurm: Slurm) -> None:
    """Raise an error if a run does not fit in a SLURM job of this kind.

    Raises:
        UsageError, MissingError: as `shape_of_run`.
    """
    nodes = slurm.nodes
    capacity = Capacity(cores=slurm.cpus_per_node * nodes, gpus=slurm.gpus_per_node * nodes, nodes=nodes)
    for spec in specs:
        shape_of_run(spec, capacity)


def side_by_side(wanted: int | Literal["auto"], todo: Sequence[RunSpec], capacity: Capacity) -> int:
    """Return how many runs go side by side, at most one per place.

    `auto` is the largest number whose workers all have a place, but not more than the number of runs that can be ready
    at the same time. It is 1 in a SLURM job, and for runs without worker processes. A run that leaves the number of its
    workers open gets all places of its share of the machine.
    """
    asked = [spec.config.resources for spec in todo]
    if wanted == "auto" and (capacity.nodes or any(r.workers == 0 for r in asked)):
        return 1
    places = min(capacity.of(resources).places for resources in asked)
    fitting = places // max([1, *(r.workers for r in asked if isinstance(r.workers, int))])
    return max(1, min(places, min(fitting, _width(todo)) if wanted == "auto" else wanted))


def _width(todo: Sequence[RunSpec]) -> int:
    """Return the largest number of runs at the same depth of the dependency graph; `todo` lists needs first."""
    depth: dict[str, int] = {}
    for spec in todo:
        depth[spec.run] = max((depth[n.run] + 1 for n in spec.needs.values() if n.run in depth), default=0)
    counts = list(depth.values())
    return max(map(counts.count, counts), default=1)
