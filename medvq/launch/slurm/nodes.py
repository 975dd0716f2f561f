"""Nodes that could do a run, as `sinfo` lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medvq.config.errors import MedvqError
from medvq.config.profile import Slurm
from medvq.launch.slurm import query

FORMAT = "%P|%G|%c|%m|%f|%D"
"""Partition (its default marked by *), GRES, cores, MB, features, and the number of such nodes."""
USABLE = "idle,mixed,allocated,completing"


def fitting(slurm: Slurm, listed: str) -> int:
    """How many nodes of the profile's partition have what a run asks for on each. Pure.

    Args:
        slurm: what is asked.
        listed: sinfo's lines in FORMAT.
    """
    count = 0
    for line in listed.splitlines():
        partition, gres, cores, megabytes, features, number = line.split("|")
        mine = partition.rstrip("*") == slurm.partition if slurm.partition else partition.endswith("*")
        wanted = set(re.findall(r"[\w.-]+", slurm.constraint or ""))
        if (
            mine
            and gpus_of(gres, slurm.gpu_type) >= slurm.gpus_per_node
            and int(cores.rstrip("+")) >= slurm.cpus_per_node
            and int(megabytes.rstrip("+")) >= slurm.memory_gb * 1024
            and wanted <= set(features.split(","))
        ):
            count += int(number)
    return count


def gpus_of(gres: str, kind: str | None) -> int:
    """GPUs in a GRES such as `gpu:a100:4(S:0-1),nvme:1`, of one type or of any."""
    found = re.findall(r"gpu:(?:([^:,()]+):)?(\d+)", gres)
    return sum(int(number) for name, number in found if kind in (None, name))


def excluded(slurm: Slurm, bad: Sequence[str]) -> tuple[str, ...]:
    """What `--exclude` and `ExcNodeList` get: the profile's nodes, then these; SLURM knows one list only. Pure."""
    return tuple(dict.fromkeys([*slurm.exclude, *bad]))


def avoidable(slurm: Slurm, bad: Sequence[str]) -> tuple[str, ...]:
    """As many of these nodes as a run can stay away from without waiting for ever; none where SLURM does not say."""
    if not bad:
        return ()
    try:
        listed = query.call("sinfo", "-h", "-t", USABLE, "-o", FORMAT, patience=query.GLANCE)
    except MedvqError:
        return ()
    spare = fitting(slurm, listed) - len(slurm.exclude) - slurm.nodes
    return tuple([host for host in bad if host not in slurm.exclude][: max(spare, 0)])
