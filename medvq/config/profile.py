"""The schema of a profile: where runs go, and what they get there."""

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
    """Whether sbatch may read a word as that option: long ones may be cut short, short ones follow others at once."""
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
"""Options of sbatch that runs depend on, by the key of a profile that says them; `extra` comes later and would win."""
Duration = Annotated[str, BeforeValidator(_with_unit), AfterValidator(_duration)]


class Slurm(Schema):
    """What SLURM is asked for, for each run."""

    partition: str | None = None
    """Partition; without it the cluster's default."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    time: Duration
    """Time limit of a SLURM job; a run that needs longer goes on in the next."""
    nodes: int = Field(default=1, ge=1)
    """Nodes of one run."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs on each node; 0 trains on CPUs."""
    gpu_type: str | None = None
    """Typed GRES, such as a100."""
    cpus_per_node: int = Field(default=4, ge=1)
    """CPU cores on each node."""
    memory_gb: int = Field(default=16, ge=1)
    """Memory on each node, in GB."""
    constraint: str | None = None
    """Features that a node must have."""
    exclude: tuple[str, ...] = ()
    """Nodes to stay away from."""
    setup: tuple[str, ...] = ()
    """Shell lines before anything runs: modules, conda, environment variables."""
    python: str | None = None
    """How Python starts, such as `apptainer exec --nv medvq.sif python3`; without it, the Python that submits."""
    interface: str | None = None
    """Network interface between nodes, such as ib0; without it, the one on the way from node to node."""
    grace: Duration = "3 min"
    """Time before the limit, and at preemption, to write a checkpoint."""
    requeues: int = Field(default=50, ge=0)
    """How often a run is started again after preemption, the time limit or a lost node."""
    parallel: int | None = Field(default=None, ge=1)
    """Runs of one group that are under way at a time."""
    mail: str | None = None
    """Address for SLURM's mail when a run ends or fails."""
    extra: tuple[Annotated[str, AfterValidator(_options)], ...] = ()
    """Further #SBATCH options, as they are, such as `--reservation=course`; none that has a key here."""

    @model_validator(mode="after")
    def _grace_fits(self) -> Slurm:
        if seconds(self.grace) > seconds(self.time) / 2:
            raise ValueError(f"grace {self.grace} is more than half of the time limit {self.time}")
        return self


class Profile(Schema):
    """Where runs go."""

    name: str
    """What to call it."""
    about: str = ""
    """One line for readers."""
    where: Literal["here", "slurm"]
    """This machine, or a SLURM cluster."""
    slurm: Slurm | None = None
    """What SLURM is asked for; only where runs go there."""

    @model_validator(mode="after")
    def _one_place(self) -> Profile:
        if (self.where == "slurm") != (self.slurm is not None):
            raise ValueError("`slurm` belongs to `where: slurm`, and only there")
        return self


def load_profile(name: str | Path) -> Profile:
    """Read a profile by path or name.

    Raises:
        NotFoundError: there is none.
        ConfigError: with everything that is wrong in it.
    """
    return validate(Profile, read_yaml(find("slurm", name)))
