"""Check that a profile fits its cluster, before anything is sent. Each result is (level, what, what to do)."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from medvq.config.profile import Slurm, load_profile
from medvq.config.units import seconds
from medvq.errors import MedvqError
from medvq.launch.slurm import nodes, query

Result = tuple[Literal["ok", "warn", "fail"], str, str]
NETWORKED = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "fuse", "panfs", "cifs", "9p", "virtiofs", "glusterfs", "afs")


def checkup(profile: str, runs: Path) -> Iterator[Result]:
    """Check a profile and its cluster."""
    place = load_profile(profile)
    if place.slurm is None:
        yield "ok", f"profile {place.name} is this machine", ""
        return
    try:
        settings = query.settings()
        partitions = parse_partitions(query.call("scontrol", "-o", "show", "partition"))
        features = query.call("sinfo", "-h", "-o", nodes.FORMAT)
    except MedvqError as e:
        yield "fail", f"SLURM: {e.error}", e.hint or "is its controller up? try `scontrol ping`"
        return
    yield "ok", f"SLURM {settings.get('SLURM_VERSION', '?')}, cluster {settings.get('ClusterName', '?')}", ""
    yield from check_partition(place.slurm, partitions, features)
    yield from check_settings(place.slurm, settings, partitions)
    yield _accounting()
    kind = filesystem(runs)
    if any(kind.startswith(name) for name in NETWORKED):
        yield "ok", f"{runs.resolve()} is on {kind}", ""
    else:
        mend = "if that is this machine's own disk, give a folder that all nodes see with --runs"
        yield "warn", f"{runs.resolve()} is on {kind or 'an unknown file system'}: do the nodes see it?", mend


def parse_partitions(text: str) -> dict[str, dict[str, str]]:
    """Parse the output of `scontrol -o show partition`, by name."""
    found = {}
    for line in text.splitlines():
        facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "PartitionName" in facts:
            found[facts["PartitionName"]] = facts
    return found


def check_partition(slurm: Slurm, partitions: Mapping[str, Mapping[str, str]], features: str) -> Iterator[Result]:
    """Check partitions, their time limits, and whether their nodes have what is asked for. Pure.

    Args:
        slurm: what is asked for.
        partitions: the result of `parse_partitions`.
        features: the lines of sinfo in `nodes.FORMAT`.
    """
    asked_for = _partitions(slurm, partitions)
    absent = [name for name in asked_for if name not in partitions]
    if absent or not asked_for:
        words = f"no partition {', '.join(map(repr, absent))}" if absent else "no default partition"
        yield "fail", words, f"there are {', '.join(partitions)}"
        return
    limits = {name: partitions[name].get("MaxTime", "UNLIMITED") for name in asked_for}
    short = [n for n, limit in limits.items() if limit != "UNLIMITED" and query.in_seconds(limit) < seconds(slurm.time)]
    for name, limit in limits.items():
        state = partitions[name].get("State", "UP")
        yield ("ok", f"partition {name} is up", "") if state == "UP" else (
            "warn", f"partition {name} is {state.lower()}", "jobs wait until it is up")  # fmt: skip
        if name in short:
            level: Literal["warn", "fail"] = "fail" if len(short) == len(asked_for) else "warn"
            yield level, f"time {slurm.time} is more than the {limit} of {name}", "ask for less; runs go on in the next"
        else:
            yield "ok", f"time {slurm.time} is within {name}'s limit ({limit.lower()})", ""
    most = max((nodes.gpus_of(line.split("|")[1], slurm.gpu_type) for line in features.splitlines()), default=0)
    fitting = nodes.fitting(slurm, features)
    name = " or ".join(asked_for)
    if fitting is None:
        mend = "`medvq submit --dry-run` prints a script that `sbatch --test-only` takes"
        yield "warn", f"cannot tell how many nodes of {name} have {slurm.constraint!r}: only SLURM reads that", mend
        return
    kind = f"{slurm.gpu_type} " if slurm.gpu_type else ""
    asked = f"{slurm.gpus_per_node} {kind}GPUs, {slurm.cpus_per_node} cores and {slurm.memory_words}"
    asked += "".join(f" and {wanted}" for wanted in slurm.gres)
    if fitting >= slurm.nodes:
        yield "ok", f"{fitting} nodes of {name} have {asked}", ""
    else:
        mend = (
            f"no node has more than {most} such GPUs" if most < slurm.gpus_per_node else "see `sinfo -o '%P %G %c %m'`"
        )
        yield "fail", f"{fitting} nodes of {name} have {asked}, and a run asks for {slurm.nodes}", mend


def check_settings(
    slurm: Slurm, settings: Mapping[str, str], partitions: Mapping[str, Mapping[str, str]]
) -> Iterator[Result]:
    """Check the settings on which arrays, preemption and requeueing depend. Pure."""
    if settings.get("MaxArraySize") == "0":
        yield "fail", "no job arrays here (MaxArraySize=0)", "ask the administrator; runs are sent as arrays"
    else:
        yield "ok", f"arrays take {settings.get('MaxArraySize', '1001')} runs (MaxArraySize); more are split", ""
    if settings.get("JobRequeue", "1") == "0":
        yield "warn", "jobs are not requeued by default (JobRequeue=0)", "runs ask for it; if refused, submit again"
    for name in _partitions(slurm, partitions):
        yield from _preemption(slurm, name, partitions.get(name, {}), settings)


def _partitions(slurm: Slurm, partitions: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the partitions of the profile, or the default one."""
    if slurm.partition:
        return slurm.partition.split(",")
    return [name for name, facts in partitions.items() if facts.get("Default") == "YES"]


def _preemption(slurm: Slurm, name: str, partition: Mapping[str, str], settings: Mapping[str, str]) -> Iterator[Result]:
    """Check what happens to preempted jobs of a partition; its own PreemptMode goes before that of the cluster."""
    modes = partition.get("PreemptMode") or settings.get("PreemptMode", "OFF")
    mode = "".join({*modes.split(",")} - {"GANG", "WITHIN"})
    if mode in ("", "OFF") or settings.get("PreemptType", "").endswith(("none", "(null)")):
        yield "ok", f"jobs in {name} are not preempted", ""
        return
    if mode == "SUSPEND":
        yield "ok", f"jobs that are preempted in {name} are suspended, and go on by themselves", ""
        return
    if mode != "REQUEUE":
        mend = "`medvq retry` goes on from the last checkpoint; is there a partition with PreemptMode=REQUEUE?"
        yield "warn", f"SLURM does not requeue what it preempts in {name} (PreemptMode={mode})", mend
    grace = partition.get("GraceTime", "0")
    told = "preempt_send_user_signal" in settings.get("SlurmctldParameters", "")
    if grace not in ("0", "00:00:00") and told:
        short = int(query.in_seconds(grace) if ":" in grace else float(grace)) < seconds(slurm.grace)
        yield ("warn", f"preemption leaves {grace} s in {name}, the profile's grace is {slurm.grace}",
               "it should be enough for a checkpoint") if short else (
            "ok", f"preemption leaves {grace} s in {name}, and runs are told of it", "")  # fmt: skip
    else:
        why = "GraceTime is 0" if told else "preempt_send_user_signal is not set"
        mend = "what was done since the last checkpoint is done again; lower resources.checkpoint_every"
        yield "warn", f"preemption in {name} comes without notice ({why})", mend


def _accounting() -> Result:
    """Check that sacct answers."""
    mend = "`status` works without it, but cannot say how SLURM jobs ended or what they used"
    try:
        query.call("sacct", "-n", "-X", "-S", "now-1minutes", "-o", "JobID")
    except MedvqError as e:
        return "warn", f"accounting: {e.error}", mend
    return "ok", "accounting answers", ""


def shared_folder(folder: Path) -> str:
    """Check that files can be made, renamed and locked in a folder, or in the nearest parent that exists.

    Raises:
        MedvqError: one of these does not work.
    """
    existing = next(p for p in [folder.resolve(), *folder.resolve().parents] if p.exists())
    beside = existing / f".medvq-{secrets.token_hex(4)}"
    after = beside.with_suffix(".renamed")
    begin = time.monotonic()
    try:
        with open(beside, "w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            f.write("x")
            f.flush()
            os.fsync(f.fileno())
            os.rename(beside, after)
    except OSError as e:
        raise MedvqError(f"{existing}: {e.strerror}", hint="choose a folder where files can be made and locked") from e
    finally:
        for path in (beside, after):
            path.unlink(missing_ok=True)
    took = 1000 * (time.monotonic() - begin)
    return f"{folder.resolve()} can be written and locked ({took:.0f} ms), {_free(existing)} free"


def _free(folder: Path) -> str:
    stat = os.statvfs(folder)
    return f"{stat.f_bavail * stat.f_frsize / 1e9:.0f} GB"


def filesystem(folder: Path) -> str:
    """Return the type of the file system that a folder is on."""
    path = str(folder.resolve())
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, found, *_ = line.split()
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind
