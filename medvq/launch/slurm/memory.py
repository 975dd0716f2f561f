"""Count processes of a SLURM job that the kernel killed because the memory of the job's cgroup was used up."""

from __future__ import annotations

import contextlib
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def kills(job: str, listed: Path = Path("/proc/self/cgroup"), root: Path = ROOT) -> int:
    """Return how many processes of a SLURM job on this node were killed for lack of memory; 0 if it is not known.

    In cgroup v1 the count of a parent does not include its children, so that steps that have ended are not counted.

    Args:
        job: SLURM's id.
        listed: the cgroups of a process of the job.
        root: where cgroups are mounted.
    """
    try:
        place = job_cgroup(listed.read_text(), job)
    except OSError:
        return 0
    if place is None:
        return 0
    if place.parts[0] == "memory":
        return sum(_count(f) for f in (root / place).rglob("memory.oom_control"))
    return _count(root / place / "memory.events")


def job_cgroup(listed: str, job: str) -> Path | None:
    """Return the path of the cgroup of a SLURM job, relative to the mount of cgroups; None if there is none. Pure.

    Args:
        listed: text of /proc/self/cgroup: a line `4:memory:/path` for each hierarchy of v1, `0::/path` for v2.
        job: SLURM's id.
    """
    lines = [line.split(":", 2) for line in listed.splitlines() if line.count(":") >= 2]
    found = {controllers: path.strip("/").split("/") for _, controllers, path in lines}
    name = f"job_{job}"
    for controllers, parts in sorted(found.items(), reverse=True):
        if name in parts and (controllers == "" or "memory" in controllers.split(",")):
            return Path("memory" if controllers else "", *parts[: parts.index(name) + 1])
    return None


def oom_kills(text: str) -> int:
    """Return the value of `oom_kill` in the text of `memory.events` (v2) or `memory.oom_control` (v1). Pure."""
    return sum(int(number) for name, number in map(str.split, text.splitlines()) if name == "oom_kill")


def _count(file: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return oom_kills(file.read_text())
    return 0
