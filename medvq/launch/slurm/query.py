"""SLURM's commands: each is called once for all jobs, and its output returned as plain data."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medvq.errors import MedvqError, MissingError

PATIENCE = 60.0
"""Seconds that a question may take; SLURM's commands give up by themselves after MessageTimeout."""
GLANCE = 10.0
"""The same, for commands that only show something."""
ACTIVE = frozenset(
    ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING",
     "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED", "RESV_DEL_HOLD")
)  # fmt: skip
"""States of SLURM jobs that have not ended."""


LOST = re.compile(
    r"unable to contact|connection|timed out|zero bytes|transport endpoint|socket|receive|\bsend|shut ?down|standby",
    re.I,
)
"""Messages of SLURM's commands after which the request may or may not have arrived."""
REFUSED = re.compile(
    r"submission failed: (Invalid (?!auth|job cred|protocol)|(The )?Requested |Job violates |Job dependency |Job size "
    r"|Node count |CPU count |Memory required |More processors |User's group |User not found|Access/permission "
    r"|Access denied |Required |No partition |Partition in |Time limit |System submissions disabled)"
    r"|Invalid \S.* specification|Invalid directive|(unrecognized|invalid|ambiguous) option",
    re.I,
)
"""Messages of `sbatch` after which it is certain that SLURM has not taken the job."""


class SilentError(MedvqError):
    """SLURM does not answer."""


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A task as squeue shows it."""

    id: str
    """Array id and index, `12_3`."""
    comment: str
    """The first word of the comment, by which medvq finds the task."""
    state: str
    reason: str
    nodes: str
    left: str
    """Time left, in SLURM's format."""

    @property
    def active(self) -> bool:
        """Whether the task waits or runs."""
        return self.state in ACTIVE


@dataclass(frozen=True, kw_only=True)
class Account:
    """A task as sacct shows it, over all its restarts."""

    id: str
    state: str
    elapsed: float
    """Seconds of the last start."""
    cpus: int
    cpu_seconds: float
    """Seconds of CPU time that were used."""
    memory: int | None
    """Peak memory in bytes on the first node, of the batch script and of Ray."""
    memory_asked: int | None
    gpus: int
    gpu_use: float | None
    """Use of the GPUs in per cent; None if the cluster does not measure it."""


def environment() -> dict[str, str]:
    """Return the environment for SLURM's commands.

    Variables of a surrounding SLURM job are removed, because new jobs would inherit them. A user's defaults for the
    output, such as SQUEUE_STATES, are removed too, because they could hide jobs. Hidden partitions are shown.
    """
    kept = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")
    dropped = ("SLURM", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SINFO_", "SCONTROL_", "SCANCEL_")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(dropped) or k in kept}
    return {**clean, "SQUEUE_ALL": "1", "SINFO_ALL": "1", "SCONTROL_ALL": "1"}


def call(*command: str, keep_open: Sequence[int] = (), patience: float = PATIENCE) -> str:
    """Return the output of one of SLURM's commands.

    Args:
        command: the command line.
        keep_open: file descriptors that the command inherits.
        patience: seconds that it may take.

    Raises:
        MissingError: SLURM is not installed here.
        SilentError: its daemon does not answer.
        MedvqError: the command fails.
    """
    if shutil.which(command[0]) is None:
        raise MissingError(f"no {command[0]} here", hint="submit from a login node of the cluster, or use --dry-run")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=patience, check=False, env=environment(),
            pass_fds=keep_open, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as e:
        raise SilentError(f"{command[0]} does not answer within {patience:.0f} s") from e
    if done.returncode == 0:
        return done.stdout
    lines = [line.strip().removeprefix(f"{command[0]}: ") for line in done.stderr.splitlines() if line.strip()]
    how = f"exit {done.returncode}" if done.returncode > 0 else f"ended by signal {-done.returncode}"
    kind = SilentError if done.returncode < 0 or LOST.search(done.stderr) else MedvqError
    raise kind("; ".join(lines) or how, where=command[0])


def job_id(said: str) -> str:
    """Return the id in what `sbatch` prints: `Submitted batch job 12`, or `12` or `12;cluster` with `--parsable`.

    Raises:
        SilentError: there is none.
    """
    found = re.search(r"job (\d+)|^(\d+)(?:;\S+)?\s*$", said, re.MULTILINE)
    if found is None:
        raise SilentError("sbatch names no job")
    return found[1] or found[2]


def queue(users: Iterable[int], patience: float = PATIENCE) -> dict[str, Queued]:
    """Return every task of these users that SLURM knows and shows to this user, by id."""
    whose = ",".join(map(str, sorted(users)))
    out = call("squeue", "-a", "-h", "-r", "-t", "all", "-u", whose, "-o", "%F_%K|%T|%N|%L|%r|%k", patience=patience)
    found: dict[str, Queued] = {}
    for line in out.splitlines():
        parts = line.split("|", 5)
        if len(parts) == 6:
            task, state, nodes, left, reason, comment = parts
            found[task] = Queued(
                id=task, comment=comment.partition(" ")[0], state=state, reason=reason, nodes=nodes, left=left
            )
    return found


FIELDS = (
    "JobID",
    "State",
    "ElapsedRaw",
    "AllocCPUS",
    "TotalCPU",
    "MaxRSS",
    "ReqMem",
    "NNodes",
    "AllocTRES",
    "TRESUsageInAve",
)


def accounts(jobs: Iterable[str], patience: float = PATIENCE) -> dict[str, Account]:
    """Return what accounting says of the tasks of some arrays, by id.

    Raises:
        MedvqError: there is no accounting, or it is down.
    """
    out = call("sacct", "-a", "-n", "-P", "-j", ",".join(jobs), "-o", ",".join(FIELDS), patience=patience)
    rows: dict[str, list[dict[str, str]]] = {}
    for line in out.splitlines():
        row = dict(zip(FIELDS, line.split("|"), strict=False))
        rows.setdefault(row["JobID"].partition(".")[0], []).append(row)
    return {task: _account(task, steps) for task, steps in rows.items() if "[" not in task}


def _account(task: str, steps: list[dict[str, str]]) -> Account:
    whole = steps[0]
    gpus = re.search(r"gres/gpu=(\d+)", whole["AllocTRES"])
    uses = [float(m[1]) for s in steps if (m := re.search(r"gres/gpuutil=([\d.]+)", s.get("TRESUsageInAve", "")))]
    used = [size for s in steps if (size := in_bytes(s["MaxRSS"])) is not None]
    return Account(
        id=task,
        state=whole["State"].partition(" ")[0],
        elapsed=float(whole["ElapsedRaw"] or 0),
        cpus=int(whole["AllocCPUS"] or 0),
        cpu_seconds=in_seconds(whole["TotalCPU"]),
        memory=sum(used) if used else None,
        memory_asked=in_bytes(whole["ReqMem"]),
        gpus=int(gpus[1]) if gpus else 0,
        gpu_use=max(uses, default=None),
    )


def in_bytes(text: str) -> int | None:
    """Convert `12345K`, `4G` or `1.5M` to bytes; None if there is no number."""
    match = re.fullmatch(r"([\d.]+)([KMGTP]?)[nc]?", text.strip())
    return int(float(match[1]) * 1024 ** " KMGTP".index(match[2] or " ")) if match else None


def in_seconds(text: str) -> float:
    """Convert SLURM's `1-02:03:04` or `03:04.5` to seconds; 0 if there is no time."""
    days, dash, rest = text.rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        if not re.fullmatch(r"[\d.]+", part):
            return 0.0
        total = total * 60 + float(part)
    return total + (86400 * float(days) if dash else 0)


def settings() -> dict[str, str]:
    """Return the settings of slurm.conf, as the controller has them."""
    found: dict[str, str] = {}
    for line in call("scontrol", "show", "config").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found[name.strip()] = value.strip()
    return found
