"""Nodes that fit a profile, according to `sinfo`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medvq.config.profile import Slurm
from medvq.errors import MedvqError
from medvq.launch.allocation.allocation import names
from medvq.launch.slurm import query

FORMAT = "%P|%G|%c|%m|%f|%D"
"""Format of sinfo: partition (the default one ends in `*`), GRES, cores, MB, features, number of such nodes."""
USABLE = "idle,mixed,allocated,completing"
"""States of nodes that jobs may run on, now or later."""


def fitting(slurm: Slurm, listed: str) -> int | None:
    """Return how many nodes have what a run asks for; of several partitions, the largest number counts. Pure.

    None means that only SLURM understands the constraint.

    Args:
        slurm: what a run asks for.
        listed: the lines of sinfo in FORMAT.
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
            and all(_has(gres, wanted) for wanted in slurm.gres)
            and int(cores.rstrip("+")) >= slurm.cpus_per_node
            and int(megabytes.rstrip("+")) >= (slurm.node_memory_gb or 0) * 1024
        ):
            counts[name] = counts.get(name, 0) + int(number)
    return max(counts.values(), default=0)


def meets_constraint(constraint: str | None, features: Sequence[str]) -> bool | None:
    """Return whether a node with these features meets a constraint such as `a&b` or `a|b`. Pure.

    None means that the constraint has counts, groups or anything else that only SLURM understands.
    """
    if constraint is None:
        return True
    words = re.split("[&|]", constraint)
    if ("&" in constraint and "|" in constraint) or not all(re.fullmatch(r"[\w.:=+-]+", word) for word in words):
        return None
    return (any if "|" in constraint else all)(word in features for word in words)


def gpus_of(gres: str, kind: str | None) -> int:
    """Return the number of GPUs in a GRES such as `gpu:a100:4(S:0-1),nvme:1`, of one type or of any."""
    found = re.findall(r"gpu:(?:([^:,()]+):)?(\d+)", gres)
    return sum(int(number) for name, number in found if kind in (None, name))


def excluded(slurm: Slurm, bad: Sequence[str]) -> tuple[str, ...]:
    """Return the value of `--exclude` and `ExcNodeList`: the nodes that the profile excludes, then these. Pure."""
    return tuple(dict.fromkeys([*slurm.exclude, *bad]))


def avoidable(slurm: Slurm, bad: Sequence[str]) -> tuple[str, ...]:
    """Return those of the nodes that a run can avoid and still find enough others; none if SLURM does not answer."""
    if not bad:
        return ()
    try:
        there = fitting(slurm, query.call("sinfo", "-h", "-t", USABLE, "-o", FORMAT, patience=query.GLANCE))
        avoided = {host for part in slurm.exclude for host in names(part)}
    except (MedvqError, ValueError):  # `exclude` of the profile is not a list of nodes; sbatch will say so
        return ()
    spare = 0 if there is None else there - len(avoided) - slurm.nodes
    return tuple([host for host in bad if host not in avoided][: max(spare, 0)])


def _has(gres: str, wanted: str) -> bool:
    """Return whether a node's GRES, such as `gpu:4,lscratch:900`, name the resource of `lscratch:100`."""
    return wanted.partition(":")[0] in {re.split("[:(]", part)[0] for part in gres.split(",")}
