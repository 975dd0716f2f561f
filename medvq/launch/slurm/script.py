"""The batch script of an array of runs: a pure function of the profile, the runs and the paths."""

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
class SbatchJob:
    """What one call of `sbatch` sends, besides the profile."""

    name: str
    """The name that `squeue` shows."""
    key: str
    """The unique comment by which `submit` finds the job."""
    number: int
    """Number of the submission."""
    tasks: tuple[int, ...]
    """Array indices."""
    dependency: str | None
    """Value of `--dependency`."""
    exclude: tuple[str, ...]
    """Nodes to avoid because runs broke down there."""
    record: Path
    """The file of the submission."""
    code: Path
    """The copy of medvq that the job runs."""
    python: str
    """The command that starts Python, unless the profile has one."""


def sbatch_text(slurm: Slurm, job: SbatchJob) -> str:
    """Return the batch script: header, setup lines, command.

    The signal before the time limit goes to the batch shell only (`B:`): sent to all processes, it would end Ray's.
    """
    blocks = [
        ["#!/bin/bash"],
        ["# Parameters", *_header(_options(slurm, job))],
        ["# setup", *(f"#SBATCH {option}" for option in slurm.extra), *_traps(job), *slurm.setup],
        ["# command", _command(slurm, job)],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _options(slurm: Slurm, job: SbatchJob) -> dict[str, str | int | None]:
    """Return the options of sbatch by name; those that are None are left out, an empty one has no value."""
    gpus = f"gpu:{slurm.gpu_type}:{slurm.gpus_per_node}" if slurm.gpu_type else f"gpu:{slurm.gpus_per_node}"
    return {
        "account": slurm.account,
        "array": indices(job.tasks) + (f"%{slurm.parallel}" if slurm.parallel else ""),
        "comment": commented(slurm, job.key),
        "constraint": slurm.constraint,
        "cpus-per-task": slurm.cpus_per_node,
        "dependency": job.dependency,
        "exclude": ",".join(excluded(slurm, job.exclude)) or None,
        "gres": ",".join([*([gpus] if slurm.gpus_per_node else []), *slurm.gres]) or None,
        "job-name": job.name,
        "kill-on-invalid-dep": "yes" if job.dependency else None,
        "mail-type": "END,FAIL" if slurm.mail else None,
        "mail-user": slurm.mail,
        **slurm.memory_option,
        "nodes": slurm.nodes,
        "ntasks-per-node": 1,
        "open-mode": "append",
        "output": str(job.record.with_name(f"{job.number}-%a.out")),
        "partition": slurm.partition,
        "qos": slurm.qos,
        "requeue": "",
        "signal": f"B:USR1@{math.ceil(seconds(slurm.grace))}",
        "time": max(1, math.ceil(seconds(slurm.time) / 60)),
    }


def commented(slurm: Slurm, key: str) -> str:
    """Return the comment of a job: the word by which it is found, then the profile's own comment."""
    return f"{key} {slurm.comment}" if slurm.comment else key


def _header(options: Mapping[str, str | int | None]) -> list[str]:
    """Return the `#SBATCH` lines, sorted by name; values are quoted as for a shell."""
    return [
        f"#SBATCH --{name}" + (f"={shlex.quote(str(value))}" if value != "" else "")
        for name, value in sorted(options.items())
        if value is not None
    ]


def _traps(job: SbatchJob) -> list[str]:
    """Return the lines that note signals. They come before the profile's own lines: a signal would end bash there."""
    started = shlex.quote(str(job.record.with_suffix(".job")))
    traps = ["asked=", "trap 'asked=USR1' USR1", "trap 'asked=TERM' TERM"]
    return [*traps, f'echo "$SLURM_ARRAY_JOB_ID" > {started}']


def _command(slurm: Slurm, job: SbatchJob) -> str:
    python = slurm.python or shlex.quote(job.python)
    record = shlex.quote(str(job.record))
    settings = [f"MEDVQ_SUBMISSION={job.number}"]
    if slurm.python:
        settings.append(f"MEDVQ_PYTHON={shlex.quote(slurm.python)}")
    if slurm.interface:
        settings.append(f"MEDVQ_INTERFACE={shlex.quote(slurm.interface)}")
    return f"""\
export PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(job.code))}${{PYTHONPATH:+:$PYTHONPATH}} {" ".join(settings)}
unset RAY_ADDRESS RANK LOCAL_RANK WORLD_SIZE MASTER_ADDR MASTER_PORT
# Python would die of a signal while it starts. So it ignores signals at first, and they are repeated every second.
(trap '' USR1 TERM; exec {python} -m medvq.launch.slurm.task_main {record} "$SLURM_ARRAY_TASK_ID") &
run=$!
while kill -0 "$run" 2>/dev/null; do
    if [ -z "$asked" ]; then wait "$run"; else sleep 1; kill -"$asked" "$run" 2>/dev/null; fi
done
wait "$run"
code=$?
case $code in 0|[2-6]) exit "$code" ;; esac
# After SIGTERM, SLURM ends this job and requeues it itself if need be; only a person's SIGTERM lets it get past here.
[ "$asked" != TERM ] || sleep 120
exclude=$({python} -m medvq.launch.slurm.requeue {record} "$SLURM_ARRAY_TASK_ID" "$code" "$SECONDS")
# The run is done, whatever broke down after that: jobs that wait for it may start.
case $? in 0) ;; {ENDED_WELL}) exit 0 ;; *) exit "$code" ;; esac
for _ in {{1..40}}; do scontrol requeue "$SLURM_JOB_ID" && break; sleep 15; done
[ -z "$exclude" ] || scontrol update JobId="$SLURM_JOB_ID" ExcNodeList="$exclude"
sleep 60
exit "$code\""""
