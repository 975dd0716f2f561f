"""Parts of this machine that do runs side by side, and what starts their workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medvq.launch.allocation.allocation import allocation
from medvq.runs.spec import RunSpec
from medvq.workers.group import Group, InProcess, Launcher
from medvq.workers.ray_group import LocalRay
from medvq.workers.torchrun_group import Torchrun


@dataclass
class Slot:
    """A part of the machine that does one group of runs at a time."""

    visible: str | None
    """The GPUs that it may use, in the form of CUDA_VISIBLE_DEVICES; None means all."""
    launchers: dict[str, Launcher] = field(default_factory=dict)
    """Launchers that were started here, by name; each serves one group after the other."""
    group: Group | None = None
    """The group that runs now."""
    batch: Sequence[RunSpec] = ()
    """The runs of that group."""
    attempts_before: dict[str, int] = field(default_factory=dict)
    """Number of attempts of each run before the group started."""
    reported: set[str] = field(default_factory=set)
    """Runs whose end was reported."""

    def close(self) -> None:
        """Stop every launcher of this slot."""
        for launcher in self.launchers.values():
            launcher.close()


def new_launcher(
    name: str, visible: str | None, *, ray_workers: int, gpus: int, shared: Path, note: Callable[[str], None]
) -> Launcher:
    """Return what starts workers: on this machine or, inside a SLURM job, on all of its nodes.

    Args:
        name: `in-process`, `torchrun` or `ray`.
        visible: the GPUs that may be used, in the form of CUDA_VISIBLE_DEVICES; None means all.
        ray_workers: the largest number of workers that a group will have.
        gpus: GPUs of this slot.
        shared: a folder that all nodes of a SLURM job see.
        note: is told while nodes are waited for.
    """
    given, environment = allocation(), {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
    if name == "in-process":
        return InProcess()
    if name == "torchrun":
        return Torchrun(environment)
    if given is not None:
        from medvq.launch.allocation.ray import AllocatedRay

        return AllocatedRay(given, shared, note)
    ray = LocalRay(workers=ray_workers, gpus=gpus)
    ray.environment.update(environment)
    return ray


def visible_gpus(slot: int, gpus: int) -> str | None:
    """Return the GPUs of a slot in the form of CUDA_VISIBLE_DEVICES; None if slots have no GPUs.

    Args:
        slot: number of the slot, from 0.
        gpus: GPUs of each slot, out of those that this process sees.
    """
    if not gpus:
        return None
    known = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = known.split(",") if known else [str(i) for i in range((slot + 1) * gpus)]
    return ",".join(names[slot * gpus : (slot + 1) * gpus])
