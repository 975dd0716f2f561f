"""The schema of a profile: where runs are computed, and with which resources."""

from __future__ import annotations

import re
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
        for reason, names in REFUSED.items():
            for name in names:
                if _may_be(word, name):
                    raise ValueError(f"{name} is refused: {reason}" + (f" (in {word})" if word != name else ""))
    return text


def _gres(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+(:[\w.-]+){0,2}", text):
        raise ValueError(f"not a generic resource of SLURM: {text!r}; write one like lscratch:100")
    if text.partition(":")[0] == "gpu":
        raise ValueError(f"GPUs are set by the keys `gpus_per_node` and `gpu_type`, not by {text}")
    return text


def _one_line(text: str) -> str:
    if not text.isprintable() or "|" in text:
        raise ValueError("a comment is one line without |")
    return text


def _may_be(word: str, option: str) -> bool:
    """Return whether sbatch may read a word as that option: long options may be abbreviated, short ones combined."""
    if word.startswith("--"):
        name = word.partition("=")[0]
        return name != "--" and option.startswith(name)
    if len(option) != 2 or not word.startswith("-"):
        return False
    rest = word[1:].lstrip(FLAGS)
    flags = word[1 : len(word) - len(rest)]
    return option[1] in flags or rest.startswith(option[1])


FLAGS = "hHIkOQsuvVW"
"""Short options of sbatch that take no value."""
OURS = {
    "": ("--array", "-a", "--dependency", "-d", "--error", "-e", "--export", "--export-file", "--job-name",
         "-J", "--kill-on-invalid-dep", "--no-requeue", "--ntasks", "-n", "--ntasks-per-node", "--open-mode",
         "--output", "-o", "--requeue", "--signal"),
    "partition": ("--partition", "-p"),
    "account": ("--account", "-A"),
    "comment": ("--comment",),
    "qos": ("--qos", "-q"),
    "time": ("--time", "-t"),
    "nodes": ("--nodes", "-N"),
    "gpus_per_node": ("--gpus", "-G", "--gpus-per-node", "--gpus-per-socket", "--gpus-per-task"),
    "gres": ("--gres",),
    "cpus_per_node": ("--cpus-per-task", "-c", "--cpus-per-gpu"),
    "memory_gb": ("--mem", "--mem-per-cpu", "--mem-per-gpu"),
    "constraint": ("--constraint", "-C"),
    "exclude": ("--exclude", "-x"),
}  # fmt: skip
"""Options of sbatch that runs depend on, by the profile key that sets them; `extra` comes later and would override."""
REFUSED = {
    "jobs are looked for on the cluster of slurm.conf, or of the variable SLURM_CLUSTERS":
        ("--clusters", "-M", "--cluster-constraint"),
    "jobs are looked for among those of the user who sends them": ("--uid", "--gid"),
    "`submit` returns at once; `medvq wait` waits": ("--wait", "-W"),
    "nothing would be sent; `medvq submit --dry-run` prints the script": ("--test-only",),
    "medvq reads what sbatch prints": ("--parsable", "--quiet", "-Q"),
    "sbatch would print a text and send nothing": ("--help", "-h", "--usage", "--version", "-V"),
    "medvq sends a script of its own": ("--wrap",),
}  # fmt: skip
"""Options of sbatch that change where a job is found, whether it is sent, or when and with what sbatch returns."""
Duration = Annotated[str, BeforeValidator(_with_unit), AfterValidator(_duration)]


class Slurm(Schema):
    """Resources that SLURM is asked for, for each run."""

    partition: str | None = None
    """Partition; without it the cluster's default."""
    account: str | None = None
    """Account that is charged."""
    comment: Annotated[str, AfterValidator(_one_line)] | None = None
    """Comment of the SLURM jobs, for people and for accounting. It follows the one by which medvq finds the job."""
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
    gres: tuple[Annotated[str, AfterValidator(_gres)], ...] = ()
    """Further generic resources of each node beside GPUs, such as `lscratch:100`."""
    memory_gb: int | None = Field(default=16, ge=1)
    """Memory in GB, on each node unless `memory_per` says otherwise; null asks for none, where a cluster forbids it."""
    memory_per: Literal["node", "cpu", "gpu"] = "node"
    """What `memory_gb` is for: each node, each CPU core or each GPU."""
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

    @property
    def memory_option(self) -> dict[str, str]:
        """The option of sbatch that asks for memory and its value; empty if no memory is asked for."""
        name = {"node": "mem", "cpu": "mem-per-cpu", "gpu": "mem-per-gpu"}[self.memory_per]
        return {} if self.memory_gb is None else {name: f"{self.memory_gb}GB"}

    @property
    def node_memory_gb(self) -> int | None:
        """Memory on each node, in GB; None if no memory is asked for."""
        shares = {"node": 1, "cpu": self.cpus_per_node, "gpu": self.gpus_per_node}[self.memory_per]
        return None if self.memory_gb is None else self.memory_gb * shares

    @property
    def memory_words(self) -> str:
        """The requested memory in words, such as `2 GB per cpu`."""
        if self.memory_gb is None:
            return "the cluster's default memory"
        return f"{self.memory_gb} GB" + (f" per {self.memory_per}" if self.memory_per != "node" else "")

    @model_validator(mode="after")
    def _memory_has_a_unit(self) -> Slurm:
        if self.memory_per == "gpu" and not self.gpus_per_node:
            raise ValueError("memory_per: gpu needs gpus_per_node of at least 1")
        return self

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
