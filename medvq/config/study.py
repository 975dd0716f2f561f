"""The schema of a study: jobs, the data they read, how they train, and the tables they fill."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, field_validator, model_validator

from medvq.config.data import Name, Source, ViewConfig
from medvq.config.schema import Schema
from medvq.config.units import seconds


def _neutral(default: Any) -> Any:
    """A field that came after the first identities were given out: it enters them only away from its default."""
    return Field(default=default, json_schema_extra={"neutral": True})


def _duration(text: str) -> str:
    seconds(text)
    return text


class Optimizer(Schema):
    """The optimizer and its rate."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """`adamw` decouples weight decay; `adam` and `sgd` put it into the gradient."""
    lr: float = Field(gt=0)
    """Learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moments (adamw, adam)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = _neutral(0.0)
    """Momentum (sgd)."""


class Schedule(Schema):
    """The course of the rate; written as a name alone where nothing else is set."""

    name: Literal["constant", "cosine", "onecycle", "step"] = "constant"
    """`constant`; `cosine` and `step` fall epoch by epoch; `onecycle` rises and falls step by step."""
    t_max: Annotated[int, Field(ge=1)] | None = _neutral(None)
    """cosine: epochs until the rate is zero, where it stays; by default all of `epochs`."""
    pct_start: Annotated[float, Field(gt=0, lt=1)] = _neutral(0.3)
    """onecycle: the part of all steps in which the rate rises to `lr`."""
    div_factor: Annotated[float, Field(ge=1)] = _neutral(25.0)
    """onecycle: the first rate is `lr` divided by this."""
    final_div_factor: Annotated[float, Field(ge=1)] = _neutral(1e4)
    """onecycle: the last rate is the first one divided by this."""
    momentum: tuple[float, float] | None = _neutral((0.85, 0.95))
    """onecycle: beta1 (sgd: momentum) falls from the second to the first while the rate rises; null leaves it alone."""
    every: Annotated[int, Field(ge=1)] = _neutral(30)
    """step: epochs between two decays."""
    gamma: Annotated[float, Field(gt=0, le=1)] = _neutral(0.1)
    """step: what the rate is multiplied by."""

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
    """The name alone where nothing else is set, else what differs from the defaults."""
    told = {k: v for k, v in value.model_dump(mode="json", exclude_defaults=True).items() if k != "name"}
    return {"name": value.name, **told} if told else value.name


class Train(Schema):
    """How a job trains. All of it is science: it enters the identity."""

    epochs: int = Field(ge=1)
    """Passes over the training view."""
    batch_size: int = Field(ge=1)
    """Global batch: images per step over all workers."""
    optimizer: Optimizer
    """The optimizer and its rate."""
    schedule: Annotated[Schedule, BeforeValidator(_schedule), PlainSerializer(_short)] = Schedule()
    """How the rate changes: `constant`, `cosine`, `onecycle`, `step`, or one of these with its settings."""
    seed: int = Field(default=0, ge=0)
    """Seeds weights, order and every draw."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` computes under autocast; quantizers, losses and weights stay float32."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient; none clips nothing."""
    watch_test: bool = Field(default=False, json_schema_extra={"neutral": True})
    """Measure test after every epoch as well, for its last and last ten values; it never chooses anything."""
    clip_value: Annotated[float, Field(gt=0)] | None = _neutral(None)
    """Largest size of each element of the gradient; none clips nothing."""
    accumulate: Annotated[int, Field(ge=1)] = _neutral(1)
    """Parts that the global batch is taken in, one after the other, for less memory: the gradient is summed, and
    weights and codebooks move once. The numbers are those of the whole batch to float tolerance, which BatchNorm
    could not give: models with it are refused."""

    @model_validator(mode="after")
    def _one_clip(self) -> Train:
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm and clip_value exclude each other")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate ({self.accumulate}) does not divide batch_size ({self.batch_size})")
        return self


class Resources(Schema):
    """What a run may use. Not science: it never changes the identity."""

    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Processes that share the global batch; `auto` is one per GPU, else one per core; 0 trains in this process."""
    gpus_per_worker: Literal["auto", 0, 1] = "auto"
    """GPUs of each worker; `auto` is one where there are any, 0 trains on the CPU beside them."""
    launcher: Literal["ray", "torchrun"] = "ray"
    """What starts the workers; the run folder is the same."""
    retries: int = Field(default=2, ge=0)
    """How often a run whose machine failed it (a process killed, Ray gone) goes on by itself from its checkpoint."""
    threads: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """CPU threads of each worker; `auto` shares the cores out."""
    loader_processes: int = Field(default=0, ge=0)
    """Processes beside each worker that read images; the pixels are the same whatever it is."""
    cache: str | None = None
    """A folder on the node's own disk; the dataset is copied there once, checked, and read from there."""
    fused: Literal["auto"] | bool = "auto"
    """The step of adam and adamw in one kernel; `auto` is wherever torch has one. Agrees to float tolerance."""
    channels_last: bool = False
    """Weights and activations with channels last in memory; agrees with the other order to float tolerance."""
    compile: bool = False
    """Compile the parts between codebooks with `torch.compile` for training; agrees to float tolerance."""
    checkpoint_every: Annotated[str, AfterValidator(_duration)] = "5 min"
    """Time between checkpoints; the end of an epoch writes one as well once a tenth of it has passed."""
    listeners: tuple[str, ...] = ()
    """Import paths of classes that are told about every epoch, such as `my_lab.watch:Printer`; see
    `medvq.train.listener`."""


class Need(Schema):
    """A run of another job that must be done first."""

    job: str
    """The job."""
    checkpoint: Annotated[str, Field(pattern=r"^(best|last)$")] = "best"
    """Which of its checkpoints is read."""


class Job(Schema):
    """One point of a job: what one run does."""

    task: str
    """What the job does: autoencode or classify."""
    about: str = ""
    """One line for readers."""
    model: dict[str, Any] | None = None
    """The network by name, with its settings; without it, that of the run needed as `init`."""
    published_parameters: int | None = None
    """The number of parameters that the paper prints for this network; shown beside ours."""
    data: ViewConfig
    """What it reads."""
    objective: dict[str, Any] = {}
    """What it minimises; the keys belong to the task."""
    train: Train
    """How it trains."""
    as_published: tuple[str, ...] = ()
    """Mistakes of the paper that are switched on, by name; `medvq describe` lists them. Tables say which were on."""
    metrics: Annotated[tuple[str, ...], Field(json_schema_extra={"neutral": True})] = ()
    """Import paths of metrics that are computed beside the task's own, such as `my_lab.metrics:specificity`; see
    `medvq.metrics.metric`."""
    resources: Resources = Resources()
    """What it may use."""
    needs: dict[str, Need] = {}
    """Runs that must be done first, by role."""


class JobEntry(Schema):
    """An entry of `jobs`; everything that is not a list of points is read point by point as a `Job`."""

    matrix: dict[str, list[Any]] = {}
    """Dotted paths and the values they take; every combination is a run."""
    points: list[dict[str, Any]] = []
    """Explicit settings, beside or instead of the matrix."""

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
    """The number, in the units of the table's value."""
    dataset: str
    """The data it was measured on; the name of a packed dataset where ours are the same, as its recipe gives it."""
    split: str
    """The split it was measured on."""
    n: int | None = None
    """Samples in that split."""
    selection: str
    """How the epoch was chosen."""
    source: str
    """Where it is printed."""


class Table(Schema):
    """A table of results."""

    about: str = ""
    """One line above the table."""
    rows: str
    """`job`, or the dotted path of an axis."""
    columns: str
    """`job`, `metrics`, or the dotted path of an axis."""
    value: str | None = None
    """The metric in the cells."""
    values: tuple[str, ...] = ()
    """The metrics that are columns, where `columns: metrics`."""
    over: str | None = None
    """The axis that is averaged over, usually train.seed."""
    where: dict[str, Any] = {}
    """Only runs with these values; a list allows several."""
    baseline: Literal["majority"] | None = None
    """`majority` adds the row of a classifier that always answers the training split's largest class."""
    compare: str | float | bool | None = None
    """The row that every other row is compared with, on the same test images."""
    percent: bool = False
    """Show fractions as per cent."""
    published: tuple[Published, ...] = ()
    """The paper's numbers for these cells."""


class StudyFile(Schema):
    """A study: a set of jobs and the tables they fill."""

    study: Name
    """Its name, and that of its folder of runs."""
    about: str = ""
    """One line for readers."""
    extends: str | None = None
    """Another study to start from; what stands here goes over it."""
    data: dict[Name, Source]
    """The datasets that jobs read, by name."""
    defaults: dict[str, Any] = {}
    """Keys that every job starts from."""
    jobs: dict[Name, dict[str, Any]]
    """The steps of the study."""
    tables: dict[str, Table] = {}
    """What is printed at the end."""
    smoke: dict[str, Any] = {}
    """What `--smoke` lays over the study."""
