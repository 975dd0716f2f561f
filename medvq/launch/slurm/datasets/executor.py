"""Send tasks to SLURM with submitit: what a profile asks for, in submitit's words."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from medvq.config.profile import Profile, Slurm
from medvq.config.units import seconds
from medvq.errors import MedvqError, MissingError, UsageError
from medvq.launch.slurm import query
from medvq.launch.slurm.nodes import excluded
from medvq.launch.slurm.script import commented

DEFAULT_TASKS = 16
"""Tasks of an array if the profile has no `parallel`."""
NO_LIMIT = 1001
"""SLURM's own default of MaxArraySize."""


class Executor(Protocol):
    """What sends tasks: SLURM's executor of submitit, or another one that runs them here."""

    def send(self, tasks: Sequence[Callable[[], None]], *, phase: str, after: str | None) -> str:
        """Send tasks that wait for the success of the job `after`, and return SLURM's id of their job."""


class SlurmTasks:
    """Sends arrays of tasks, each on one node."""

    def __init__(self, slurm: Slurm, *, folder: Path, code: Path, name: str, key: str) -> None:
        if "%" in str(folder):
            raise UsageError("SLURM cannot write logs to a path with %", where=str(folder), hint="choose another DEST")
        self.slurm, self.folder, self.code, self.name, self.key = slurm, folder, code, name, key

    def send(self, tasks: Sequence[Callable[[], None]], *, phase: str, after: str | None) -> str:
        """Send tasks as one array; see `Executor`.

        Raises:
            SilentError: it is not known whether SLURM took them.
            MedvqError: SLURM refuses them.
        """
        python = self.slurm.python or shlex.quote(sys.executable)
        # `exec`, and no srun: Python takes the place of the batch shell, which alone gets SLURM's signal (`B:`).
        executor = submitit.SlurmExecutor(self.folder, max_num_timeout=self.slurm.requeues, python=f"exec {python}")
        asks = parameters(
            self.slurm,
            tasks=len(tasks),
            name=f"{self.name}.{phase}",
            comment=f"{self.key}:{phase}",
            code=self.code,
            after=after,
        )
        executor.update_parameters(**asks)
        try:
            with _environment():
                jobs = executor.submit_array(tasks)
        except (FailedJobError, FailedSubmissionError) as e:
            words = "; ".join(str(e).splitlines())
            if isinstance(e, FailedJobError) and query.REFUSED.search(words):
                raise MedvqError(f"SLURM refuses the {phase} tasks: {words}", where=str(self.folder)) from e
            raise query.SilentError(
                f"it is not known whether SLURM took the {phase} tasks: {words}",
                hint="give the same command again: it asks SLURM for them first",
            ) from e
        return str(jobs[0].job_id).partition("_")[0]


def parameters(slurm: Slurm, *, tasks: int, name: str, comment: str, code: Path, after: str | None) -> dict[str, Any]:
    """Return submitit's parameters for an array. Pure.

    Args:
        slurm: what the profile asks for; each task gets one node's share.
        tasks: how many tasks the array has.
        name: what people see in `squeue`.
        comment: what the job is found by.
        code: folder of the copy of medvq that tasks run.
        after: id of the job whose success they wait for.
    """
    return {
        "job_name": name,
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "time": max(1, math.ceil(seconds(slurm.time) / 60)),
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": slurm.cpus_per_node,
        "constraint": slurm.constraint,
        "exclude": ",".join(excluded(slurm, ())) or None,
        "comment": commented(slurm, comment),
        "dependency": f"afterok:{after}" if after else None,
        "mail_user": slurm.mail,
        "mail_type": "FAIL" if slurm.mail else None,
        "array_parallelism": tasks,
        "wckey": None,
        "stderr_to_stdout": True,
        "use_srun": False,
        # Signals are ignored until submitit listens to them, as Python would die of them while it starts.
        "setup": [
            *(f"#SBATCH {option}" for option in slurm.extra),
            "trap '' USR2 TERM",
            *slurm.setup,
            f"export PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
        ],
        "additional_parameters": {
            "requeue": True,
            **slurm.memory_option,
            **({"gres": ",".join(slurm.gres)} if slurm.gres else {}),
            "signal": f"B:USR2@{math.ceil(seconds(slurm.grace))}",
            **({"kill-on-invalid-dep": "yes"} if after else {}),
        },
    }


def check_profile(profile: Profile) -> Slurm:
    """Return what a profile asks SLURM for.

    Raises:
        UsageError: it is not a profile of a cluster, or it asks for GPUs, which packing and verifying do not use.
    """
    if profile.slurm is None:
        raise UsageError(f"profile {profile.name} is this machine", hint="leave --profile away to do it here")
    if profile.slurm.gpus_per_node:
        raise UsageError(
            f"profile {profile.name} asks for GPUs, and datasets are packed and verified without",
            hint="give a profile with gpus_per_node: 0, such as --profile cpu",
        )
    return profile.slurm


def array_limit() -> int:
    """Ask SLURM for the largest size of an array.

    Raises:
        MissingError: there is no SLURM here. SilentError: it does not answer.
    """
    for command in ("sbatch", "srun", "squeue"):
        if shutil.which(command) is None:
            raise MissingError(
                f"no {command} here", hint="give the command on a login node of the cluster, or use --dry-run"
            )
    return int(query.settings().get("MaxArraySize", NO_LIMIT))


def tasks_for(slurm: Slurm, work: int, limit: int = NO_LIMIT) -> int:
    """Return the number of tasks for `work` pieces of work: as many as the profile's `parallel`, else 16. Pure.

    Args:
        slurm: the profile.
        work: pieces of work; there are no more tasks than that.
        limit: the cluster's MaxArraySize.
    """
    return max(1, min(work, slurm.parallel or DEFAULT_TASKS, limit))


@contextmanager
def _environment() -> Iterator[None]:
    """Hide the variables of a surrounding SLURM job, which new jobs would inherit, inside this context."""
    before = dict(os.environ)
    try:
        for name in before.keys() - query.environment().keys():
            del os.environ[name]
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
