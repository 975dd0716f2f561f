"""The schema of a profile: where runs go, and what they get there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from medvq.config.locate import find
from medvq.config.schema import Schema, validate
from medvq.config.units import seconds
from medvq.config.yamlfile import read_yaml


def _duration(text: str) -> str:
    seconds(text)
    return text


Duration = Annotated[str, AfterValidator(_duration)]


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
    extra: tuple[str, ...] = ()
    """Further #SBATCH options, as they are."""


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
