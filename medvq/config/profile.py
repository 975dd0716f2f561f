"""The schema of a profile: where runs are computed, and with which resources."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from medvq.config.locate import find
from medvq.config.schema import Schema, validate
from medvq.config.units import seconds
from medvq.config.yamlfile import read_yaml


def _duration(text: str) -> str:
    seconds(text)
    return text


def _with_unit(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError(f"{value} of what? write a duration like 90 s, 5 min or 1.5 h")
    return value


def _options(text: str) -> str:
    if not text.startswith("-") or "\n" in text:
        raise ValueError(f"not an option of sbatch: {text!r}")
    for word in shlex.split(text):
        for key, names in OURS.items():
            for name in names:
                if _may_be(word, name):
                    by = f"the key `{key}`" if key else "medvq"
                    raise ValueError(f"{name} is set by {by}" + (f", not by {word}" if word != name else ""))
    return text


def _may_be(word: str, option: str) -> bool:
    """Return whether sbatch may read a word as that option: long options may be abbreviated, short ones combined."""
    if word.startswith("--"):
        name = word.partition("=")[0]
        return name != "--" and option.startswith(name)
    return len(option) == 2 and word.startswith("-") and word[1:].lstrip(FLAGS).startswith(option[1])


FLAGS = "HIkOQsuvVW"
"""Short options of sbatch that take no value."""
OURS = {
    "": ("--array", "-a", "--comment", "--dependency", "-d", "--error", "-e", "--export", "--export-file", "--job-name",
         "-J", "--kill-on-invalid-dep", "--no-requeue", "--ntasks", "-n", "--ntasks-per-node", "--open-mode",
         "--output", "-o", "--requeue", "--signal"),
    "partition": ("--partition", "-p"),
    "account": ("--account", "-A"),
    "qos": ("--qos", "-q"),
    "time": ("--time", "-t"),
    "nodes": ("--nodes", "-N"),
    "gpus_per_node": ("--gpus", "-G", "--gpus-per-node", "--gpus-per-socket", "--gpus-per-task", "--gres"),
    "cpus_per_node": ("--cpus-per-task", "-c", "--cpus-per-gpu"),
    "memory_gb": ("--mem", "--mem-per-cpu", "--mem-per-gpu"),
    "constraint": ("--constraint", "-C"),
    "exclude": ("--exclude", "-x"),
}  # fmt: skip
"""Options of sbatch that runs depend on, by the profile key that sets them; `extra` comes later and would override."""
Duration = Annotated[str, BeforeValidator(_with_unit), AfterValidator(_duration)]


class Slurm(Schema):
    """Resources that SLURM is asked for, for each run."""

    partition: str | None = None
    """Partition; without it the cluster's default."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    time: Duration
    """Time limit of a SLURM job; a run that needs longer continues in the next job."""
    nodes: int = Field(default=1, ge=1)
    """Nodes of one run."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs on each node; 0 trains on CPUs."""
    gpu_type: str | None = None
    """GPU type, as in a typed GRES, such as a100."""
    cpus_per_node: int = Field(default=4, ge=1)
    """CPU cores on each node."""
    memory_gb: int = Field(default=16, ge=1)
    """Memory on each node, in GB."""
    constraint: str | None = None
    """Features that a node must have."""
    exclude: tuple[str, ...] = ()
    """Nodes to avoid."""
    setup: tuple[str, ...] = ()
    """Shell lines to run first: modules, conda, environment variables."""
    python: str | None = None
    """Command that starts Python, such as `apptainer exec --nv medvq.sif python3`; by default this Python."""
    interface: str | None = None
    """Network interface between nodes, such as ib0; by default the one on the route between the nodes."""
    grace: Duration = "3 min"
    """Time before the limit, and at preemption, to write a checkpoint."""
    requeues: int = Field(default=50, ge=0)
    """How often a run is restarted after preemption, the time limit or a lost node."""
    parallel: int | None = Field(default=None, ge=1)
    """Largest number of runs of one array at a time; None: all. Datasets are packed by that many tasks; None: 16."""
    mail: str | None = None
    """Address to which SLURM sends mail when a run ends or fails."""
    extra: tuple[Annotated[str, AfterValidator(_options)], ...] = ()
    """Further #SBATCH options, such as `--reservation=course`; options that have a key here are refused."""

    @model_validator(mode="after")
    def _grace_fits(self) -> Slurm:
        if seconds(self.grace) > seconds(self.time) / 2:
            raise ValueError(f"grace {self.grace} is more than half of the time limit {self.time}")
        return self


class Profile(Schema):
    """Where runs are computed."""

    name: str
    """Name of the profile."""
    about: str = ""
    """One line for readers."""
    where: Literal["here", "slurm"]
    """`here` is this machine, `slurm` a SLURM cluster."""
    slurm: Slurm | None = None
    """Resources that SLURM is asked for; required with `where: slurm`, and only there."""

    @model_validator(mode="after")
    def _one_place(self) -> Profile:
        if (self.where == "slurm") != (self.slurm is not None):
            raise ValueError("`slurm` belongs to `where: slurm`, and only there")
        return self


def load_profile(name: str | Path) -> Profile:
    """Read a profile by path or name.

    Raises:
        NotFoundError: there is no such profile.
        ConfigError: the profile has mistakes; the error lists all.
    """
    return validate(Profile, read_yaml(find("slurm", name)))
