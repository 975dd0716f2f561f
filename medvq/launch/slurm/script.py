"""The text that `sbatch` gets: a pure function of the profile, the group of runs and where things are."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medvq.config.profile import Slurm
from medvq.config.units import seconds
from medvq.launch.slurm.arrays import indices
from medvq.launch.slurm.history import ENDED_WELL
from medvq.launch.slurm.nodes import excluded


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What belongs to one call of sbatch."""

    name: str
    """What people see in `squeue`."""
    key: str
    """What `submit` finds it by."""
    number: int
    """Of the submission."""
    tasks: tuple[int, ...]
    dependency: str | None
    exclude: tuple[str, ...]
    """Nodes where runs have failed."""
    record: Path
    """The submission's file."""
    code: Path
    """The snapshot of medvq that runs."""
    python: str
    """How Python starts where the profile does not say."""


def sbatch_text(slurm: Slurm, sent: Sent) -> str:
    """Return the batch script: header, setup lines, command.

    The signal before the time limit goes to the batch shell only (`B:`): sent to all processes, it would end Ray's.
    """
    blocks = [
        ["#!/bin/bash"],
        ["# Parameters", *_header(_options(slurm, sent))],
        ["# setup", *(f"#SBATCH {option}" for option in slurm.extra), *_traps(sent), *slurm.setup],
        ["# command", _command(slurm, sent)],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _options(slurm: Slurm, sent: Sent) -> dict[str, str | int | None]:
    """Return the options of sbatch by name; those that are None are left out, an empty one has no value."""
    gpus = f"gpu:{slurm.gpu_type}:{slurm.gpus_per_node}" if slurm.gpu_type else f"gpu:{slurm.gpus_per_node}"
    return {
        "account": slurm.account,
        "array": indices(sent.tasks) + (f"%{slurm.parallel}" if slurm.parallel else ""),
        "comment": sent.key,
        "constraint": slurm.constraint,
        "cpus-per-task": slurm.cpus_per_node,
        "dependency": sent.dependency,
        "exclude": ",".join(excluded(slurm, sent.exclude)) or None,
        "gres": gpus if slurm.gpus_per_node else None,
        "job-name": sent.name,
        "kill-on-invalid-dep": "yes" if sent.dependency else None,
        "mail-type": "END,FAIL" if slurm.mail else None,
        "mail-user": slurm.mail,
        "mem": f"{slurm.memory_gb}GB",
        "nodes": slurm.nodes,
        "ntasks-per-node": 1,
        "open-mode": "append",
        "output": str(sent.record.with_name(f"{sent.number}-%a.out")),
        "partition": slurm.partition,
        "qos": slurm.qos,
        "requeue": "",
        "signal": f"B:USR1@{math.ceil(seconds(slurm.grace))}",
        "time": max(1, math.ceil(seconds(slurm.time) / 60)),
    }


def _header(options: Mapping[str, str | int | None]) -> list[str]:
    """Return the `#SBATCH` lines, sorted by name; values are quoted as for a shell."""
    return [
        f"#SBATCH --{name}" + (f"={shlex.quote(str(value))}" if value != "" else "")
        for name, value in sorted(options.items())
        if value is not None
    ]


def _traps(sent: Sent) -> list[str]:
    """Before the profile's own lines, which may take long: a signal would end bash, and so the job."""
    started = shlex.quote(str(sent.record.with_suffix(".job")))
    traps = ["asked=", "trap 'asked=USR1' USR1", "trap 'asked=TERM' TERM"]
    return [*traps, f'echo "$SLURM_ARRAY_JOB_ID" > {started}']


def _command(slurm: Slurm, sent: Sent) -> str:
    python = slurm.python or shlex.quote(sent.python)
    record = shlex.quote(str(sent.record))
    settings = [f"MEDVQ_SUBMISSION={sent.number}"]
    if slurm.python:
        settings.append(f"MEDVQ_PYTHON={shlex.quote(slurm.python)}")
    if slurm.interface:
        settings.append(f"MEDVQ_INTERFACE={shlex.quote(slurm.interface)}")
    return f"""\
export PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(sent.code))}${{PYTHONPATH:+:$PYTHONPATH}} {" ".join(settings)}
unset RAY_ADDRESS RANK LOCAL_RANK WORLD_SIZE MASTER_ADDR MASTER_PORT
# Python cannot hear a signal as it starts, and would die of it; the second before each is for bash to begin with that.
(trap '' USR1 TERM; exec {python} -m medvq.launch.slurm.task_main {record} "$SLURM_ARRAY_TASK_ID") &
run=$!
while kill -0 "$run" 2>/dev/null; do
    if [ -z "$asked" ]; then wait "$run"; else sleep 1; kill -"$asked" "$run" 2>/dev/null; fi
done
wait "$run"
code=$?
case $code in 0|[2-6]) exit "$code" ;; esac
# SLURM has begun to end the job, unless a person sent this signal, and knows best whether it comes back.
[ "$asked" != TERM ] || sleep 120
exclude=$({python} -m medvq.launch.slurm.requeue {record} "$SLURM_ARRAY_TASK_ID" "$code" "$SECONDS")
# What waits for this job waits for the run: it is done whatever broke down after that.
case $? in 0) ;; {ENDED_WELL}) exit 0 ;; *) exit "$code" ;; esac
for _ in {{1..40}}; do scontrol requeue "$SLURM_JOB_ID" && break; sleep 15; done
[ -z "$exclude" ] || scontrol update JobId="$SLURM_JOB_ID" ExcNodeList="$exclude"
sleep 60
exit "$code\""""
