"""Nodes that could do a run, as `sinfo` lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medvq.config.profile import Slurm
from medvq.errors import MedvqError
from medvq.launch.slurm import query
from medvq.launch.slurm.allocation import names

FORMAT = "%P|%G|%c|%m|%f|%D"
"""Partition (its default marked by *), GRES, cores, MB, features, and the number of such nodes."""
USABLE = "idle,mixed,allocated,completing"


def fitting(slurm: Slurm, listed: str) -> int | None:
    """How many nodes have what a run asks for on each; of several partitions, in the one that has most. Pure.

    None where only SLURM can tell what the constraint means.

    Args:
        slurm: what is asked.
        listed: sinfo's lines in FORMAT.
    """
    counts: dict[str, int] = {}
    for line in listed.splitlines():
        partition, gres, cores, megabytes, features, number = line.split("|")
        name = partition.rstrip("*")
        meets = meets_constraint(slurm.constraint, features.split(","))
        if meets is None:
            return None
        if (
            (name in slurm.partition.split(",") if slurm.partition else partition.endswith("*"))
            and meets
            and gpus_of(gres, slurm.gpu_type) >= slurm.gpus_per_node
            and int(cores.rstrip("+")) >= slurm.cpus_per_node
            and int(megabytes.rstrip("+")) >= slurm.memory_gb * 1024
        ):
            counts[name] = counts.get(name, 0) + int(number)
    return max(counts.values(), default=0)


def meets_constraint(constraint: str | None, features: Sequence[str]) -> bool | None:
    """Whether a node with these features meets `a&b` or `a|b`; None for counts, groups and all else. Pure."""
    if constraint is None:
        return True
    words = re.split("[&|]", constraint)
    if ("&" in constraint and "|" in constraint) or not all(re.fullmatch(r"[\w.:=+-]+", word) for word in words):
        return None
    return (any if "|" in constraint else all)(word in features for word in words)


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
        there = fitting(slurm, query.call("sinfo", "-h", "-t", USABLE, "-o", FORMAT, patience=query.GLANCE))
        avoided = {host for part in slurm.exclude for host in names(part)}
    except (MedvqError, ValueError):  # a list of nodes that SLURM will not take either
        return ()
    spare = 0 if there is None else there - len(avoided) - slurm.nodes
    return tuple([host for host in bad if host not in avoided][: max(spare, 0)])
