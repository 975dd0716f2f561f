"""The nodes, cores and GPUs of the SLURM job that this process belongs to, read from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The resources of a SLURM job; every node gives the same."""

    job: str
    """SLURM's id of the job or, in an array, of the task."""
    restart: int
    """How often the job was requeued."""
    nodes: tuple[str, ...]
    """Names of the nodes; this process runs on the first one."""
    cpus: int
    """Cores on each node."""
    gpus: int
    """GPUs on each node."""
    memory: int | None
    """Bytes on each node; None if SLURM sets no limit."""


def allocation(environment: Mapping[str, str] = os.environ) -> Allocation | None:
    """Return the allocation that this process runs in; None outside of SLURM jobs.

    A shell that `salloc` starts on the login node counts as outside, because Ray's driver must run on one of the nodes.
    """
    job, nodes = environment.get("SLURM_JOB_ID"), environment.get("SLURM_JOB_NODELIST")
    if not job or not nodes or "SLURMD_NODENAME" not in environment:
        return None
    cpus = environment.get("SLURM_CPUS_PER_TASK") or environment.get("SLURM_JOB_CPUS_PER_NODE") or "1"
    each = min(int(n) for n in re.findall(r"(\d+)(?:\(x\d+\))?(?:,|$)", cpus))
    per_node, per_cpu = environment.get("SLURM_MEM_PER_NODE"), environment.get("SLURM_MEM_PER_CPU")
    per_gpu, gpus = environment.get("SLURM_MEM_PER_GPU"), _gpus(environment)
    megabytes = int(per_node) if per_node else int(per_cpu) * each if per_cpu else int(per_gpu or 0) * gpus
    return Allocation(
        job=job,
        restart=int(environment.get("SLURM_RESTART_COUNT") or 0),
        nodes=tuple(sorted(names(nodes), key=lambda n: n != environment["SLURMD_NODENAME"])),
        cpus=each,
        gpus=gpus,
        memory=megabytes * 2**20 or None,
    )


def _gpus(environment: Mapping[str, str]) -> int:
    """Return the GPUs of a node. Which variable has them depends on SLURM's version and on the options of the job."""
    for name in ("SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"):
        number = re.search(r"(\d+)$", environment.get(name, ""))
        if number:
            return int(number[1])
    return len([d for d in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if d and d != "NoDevFiles"])


def names(nodelist: str) -> tuple[str, ...]:
    """Expand SLURM's short form of node names: `a[1-2,07],b` gives a1, a2, a07, b."""
    found: list[str] = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", nodelist):
        found += _expanded(part)
    return tuple(found)


def _expanded(part: str) -> list[str]:
    match = re.search(r"\[([^\]]*)\]", part)
    if not match:
        return [part]
    before, after = part[: match.start()], part[match.end() :]
    numbers: list[str] = []
    for span in match[1].split(","):
        first, _, last = span.partition("-")
        numbers += [str(n).zfill(len(first)) for n in range(int(first), int(last or first) + 1)]
    return [name for n in numbers for name in _expanded(before + n + after)]
