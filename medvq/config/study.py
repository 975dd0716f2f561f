"""The schema of a study: jobs, the data they read, how they train, and the tables they fill."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, field_validator, model_validator

from medvq.config.data import Name, Source, ViewConfig
from medvq.config.schema import Schema
from medvq.config.units import seconds


def _neutral(default: Any) -> Any:
    """Make a field that is part of identities only if it differs from its default, because it was added later."""
    return Field(default=default, json_schema_extra={"neutral": True})


def _duration(text: str) -> str:
    seconds(text)
    return text


class Optimizer(Schema):
    """The optimizer and its learning rate."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """`adamw` decouples weight decay; `adam` and `sgd` add it to the gradient."""
    lr: float = Field(gt=0)
    """Learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moments (adamw, adam)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = _neutral(0.0)
    """Momentum (sgd)."""


class Schedule(Schema):
    """The course of the learning rate; written as a name alone if nothing else is set."""

    name: Literal["constant", "cosine", "onecycle", "step"] = "constant"
    """`constant`; `cosine` and `step` fall epoch by epoch; `onecycle` rises and falls step by step."""
    t_max: Annotated[int, Field(ge=1)] | None = _neutral(None)
    """cosine: epochs until the rate is zero, where it stays; by default all of `epochs`."""
    pct_start: Annotated[float, Field(gt=0, lt=1)] = _neutral(0.3)
    """onecycle: the share of all steps in which the rate rises to `lr`."""
    div_factor: Annotated[float, Field(ge=1)] = _neutral(25.0)
    """onecycle: the first rate is `lr` divided by this."""
    final_div_factor: Annotated[float, Field(ge=1)] = _neutral(1e4)
    """onecycle: the last rate is the first one divided by this."""
    momentum: tuple[float, float] | None = _neutral((0.85, 0.95))
    """onecycle: beta1 (sgd: momentum) falls from the second to the first while the rate rises; null keeps it."""
    every: Annotated[int, Field(ge=1)] = _neutral(30)
    """step: epochs between two decays."""
    gamma: Annotated[float, Field(gt=0, le=1)] = _neutral(0.1)
    """step: factor by which the rate is multiplied."""

    @model_validator(mode="after")
    def _its_own(self) -> Schedule:
        foreign = sorted(self.model_fields_set - {"name"} - SCHEDULE_KEYS[self.name])
        if foreign:
            raise ValueError(f"{', '.join(foreign)} means nothing to {self.name}")
        return self


SCHEDULE_KEYS: dict[str, set[str]] = {
    "constant": set(),
    "cosine": {"t_max"},
    "onecycle": {"pct_start", "div_factor", "final_div_factor", "momentum"},
    "step": {"every", "gamma"},
}


def _schedule(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _short(value: Schedule) -> Any:
    """Return the name alone if nothing else is set, else what differs from the defaults."""
    told = {k: v for k, v in value.model_dump(mode="json", exclude_defaults=True).items() if k != "name"}
    return {"name": value.name, **told} if told else value.name


class Train(Schema):
    """How a job trains. Every key is part of the run's identity."""

    epochs: int = Field(ge=1)
    """Passes over the training view."""
    batch_size: int = Field(ge=1)
    """Global batch: images per step over all workers."""
    optimizer: Optimizer
    """The optimizer and its learning rate."""
    schedule: Annotated[Schedule, BeforeValidator(_schedule), PlainSerializer(_short)] = Schedule()
    """How the rate changes: `constant`, `cosine`, `onecycle`, `step`, or one of these with its settings."""
    seed: int = Field(default=0, ge=0)
    """Seed of the weights, the order of samples and every random draw."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` computes under autocast; quantizers, losses and weights stay float32."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient; null does not clip."""
    watch_test: bool = Field(default=False, json_schema_extra={"neutral": True})
    """Also measure test after every epoch, for its last and last ten values; it never chooses anything."""
    clip_value: Annotated[float, Field(gt=0)] | None = _neutral(None)
    """Largest absolute value of each element of the gradient; null does not clip."""
    accumulate: Annotated[int, Field(ge=1)] = _neutral(1)
    """Parts in which the global batch is computed, one after the other, to save memory. The gradient is summed, and
    weights and codebooks are updated once. The numbers are those of the whole batch to float tolerance. Models with
    BatchNorm are refused, because it would normalize each part by itself."""

    @model_validator(mode="after")
    def _one_clip(self) -> Train:
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm and clip_value exclude each other")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate ({self.accumulate}) does not divide batch_size ({self.batch_size})")
        return self


class Resources(Schema):
    """Resources of a run. They are not part of its identity."""

    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Processes that share the global batch; `auto` is one per GPU, else one per core; 0 trains in this process."""
    gpus_per_worker: Literal["auto", 0, 1] = "auto"
    """GPUs of each worker: `auto` is one if there are any, 0 trains on the CPU, 1 requires one."""
    launcher: Literal["ray", "torchrun"] = "ray"
    """The program that starts the workers; the result is the same."""
    retries: int = Field(default=2, ge=0)
    """How often a run continues by itself from its checkpoint after a process was killed or Ray ended."""
    threads: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """CPU threads of each worker; `auto` divides the cores among the workers."""
    loader_processes: int = Field(default=0, ge=0)
    """Processes of each worker that read images; pixels do not depend on their number."""
    cache: str | None = None
    """A folder on the node's own disk, to which the dataset is copied once, checked, and read from."""
    fused: Literal["auto"] | bool = "auto"
    """Compute the step of adam and adamw in one kernel; `auto` does if torch has one. Agrees to float tolerance."""
    channels_last: bool = False
    """Keep weights and activations with channels last in memory; agrees with the other order to float tolerance."""
    compile: bool = False
    """Compile the parts between codebooks with `torch.compile` for training; agrees to float tolerance."""
    checkpoint_every: Annotated[str, AfterValidator(_duration)] = "5 min"
    """Time between checkpoints. The end of an epoch also writes one, if a tenth of this time has passed."""
    listeners: tuple[str, ...] = ()
    """Import paths of classes that are told about every epoch, such as `my_lab.watch:Printer`; see
    `medvq.train.listener`."""


class Need(Schema):
    """A run of another job that must be done first."""

    job: str
    """The job."""
    checkpoint: Annotated[str, Field(pattern=r"^(best|last)$")] = "best"
    """The checkpoint that is read."""


class Job(Schema):
    """One point of a job: everything that one run does."""

    task: str
    """What the job does: autoencode, classify, probe, or the import path of a task of your own."""
    about: str = ""
    """One line for readers."""
    model: dict[str, Any] | None = None
    """The network by name, with its settings; by default that of the run needed as `init`."""
    published_parameters: int | None = None
    """The number of parameters that the paper prints for this network; `medvq describe` shows it beside ours."""
    data: ViewConfig
    """The data that it reads."""
    objective: dict[str, Any] = {}
    """Settings of what is minimised; the keys are those of the task."""
    train: Train
    """How it trains."""
    as_published: tuple[str, ...] = ()
    """Mistakes of papers that are switched on, by name; `medvq describe` lists them, and tables say which were on."""
    metrics: Annotated[tuple[str, ...], Field(json_schema_extra={"neutral": True})] = ()
    """Import paths of metrics that are computed beside the task's own, such as `my_lab.metrics:specificity`; see
    `medvq.metrics.metric`."""
    resources: Resources = Resources()
    """Its resources."""
    needs: dict[str, Need] = {}
    """Runs that must be done first, by role."""


class JobEntry(Schema):
    """The keys of an entry of `jobs` that list points; all others are read as a `Job` for every point."""

    matrix: dict[str, list[Any]] = {}
    """Values of dotted paths; every combination is a run."""
    points: list[dict[str, Any]] = []
    """Explicit settings, in addition to or instead of the matrix."""

    @field_validator("matrix")
    @classmethod
    def _full(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for axis, values in value.items():
            if not values:
                raise ValueError(f"axis {axis} has no values")
            if len({repr(v) for v in values}) < len(values):
                raise ValueError(f"axis {axis} repeats a value")
        return value


class Published(Schema):
    """A number that a paper printed."""

    row: str | float | bool
    """Row of the table."""
    column: str | float | bool
    """Column of the table."""
    value: float
    """The number, in the unit of the table's value."""
    dataset: str
    """The data on which it was measured; if ours are the same, the name of the packed dataset, as in its recipe."""
    split: str
    """The split on which it was measured."""
    n: int | None = None
    """Samples in that split."""
    selection: str
    """How the epoch was chosen."""
    source: str
    """Where it was printed."""


class Table(Schema):
    """A table of results."""

    about: str = ""
    """A line above the table."""
    rows: str
    """`job`, or the dotted path of an axis."""
    columns: str
    """`job`, `metrics`, or the dotted path of an axis."""
    value: str | None = None
    """The metric in the cells."""
    values: tuple[str, ...] = ()
    """The metrics in the columns, with `columns: metrics`."""
    over: str | None = None
    """The axis to average over, usually train.seed."""
    where: dict[str, Any] = {}
    """Only runs with these values; a list allows several."""
    baseline: Literal["majority"] | None = None
    """`majority` adds a row for a classifier that always predicts the largest class of the training split."""
    compare: str | float | bool | None = None
    """The row with which every other row is compared, on the same test images."""
    percent: bool = False
    """Show fractions as percentages."""
    published: tuple[Published, ...] = ()
    """The paper's numbers for these cells."""


class StudyFile(Schema):
    """A study: a set of jobs and the tables they fill."""

    study: Name
    """Its name, and the name of its folder of runs."""
    about: str = ""
    """One line for readers."""
    extends: str | None = None
    """Another study to start from; the keys of this one replace its keys."""
    data: dict[Name, Source]
    """The datasets that jobs read, by name."""
    defaults: dict[str, Any] = {}
    """Keys that every job starts from."""
    jobs: dict[Name, dict[str, Any]]
    """The steps of the study."""
    tables: dict[str, Table] = {}
    """The tables to print at the end."""
    smoke: dict[str, Any] = {}
    """Changes that `--smoke` makes to the study."""
