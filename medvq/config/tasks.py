"""What a study can ask for: each task with its objective, the roles it may need, and the metrics it declares.

The code of a task is in `medvq.train.tasks`; what stands here can be read without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medvq.config.schema import Schema
from medvq.errors import UsageError, suggest
from medvq.registry import import_object, is_import_path

Better = Literal["min", "max"]


class AutoencodeObjective(Schema):
    """What autoencoding minimises: MSE of every active level's reconstruction plus its commitment losses."""

    stagger: int = Field(default=0, ge=0)
    """Epochs after which the next level of a stacked model joins; 0 trains all levels from the start (SPEC §1)."""
    reconstruct: Literal["recon_all", "recon_level"] = Field(default="recon_all", json_schema_extra={"neutral": True})
    """`recon_all` decodes every level to pixels; `recon_level` to its own input, which is detached (SPEC §1)."""
    foreground: Annotated[float, Field(ge=0, lt=1)] | Literal["mask"] | None = Field(
        default=None, json_schema_extra={"neutral": True}
    )
    """Also measure SSIM inside the foreground: pixels whose mean over channels, in [0, 1], is above this; or `mask`,
    inside the dataset's masks, over the held-out images that have one."""

    @property
    def reads_masks(self) -> bool:
        """Whether held-out images are measured with their masks."""
        return self.foreground == "mask"


class ClassifyObjective(Schema):
    """What classification minimises: cross-entropy on logits, and on some epochs the reconstruction too."""

    reconstruct_every: int = Field(default=0, ge=0)
    """Every N-th epoch adds MSE of the deepest reconstruction and its commitment losses (SPEC §1: 2); 0 never."""
    feature: float = Field(default=1.0, ge=0, json_schema_extra={"neutral": True})
    """Weight of MSE(code(x), code(masked x)), which is added where the data are read with masks (SPEC §1)."""
    freeze: Literal["none", "encoder"] = Field(default="none", json_schema_extra={"neutral": True})
    """`encoder` trains the head alone: all else stays as it is, in evaluation mode, codebooks and norms included."""

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if self.freeze == "encoder" and self.reconstruct_every:
            raise ValueError("a frozen encoder has nothing to learn from reconstruct_every")
        return self


class ProbeObjective(Schema):
    """How frozen codes are probed: the features, and what is tried on validation."""

    features: Literal["flat", "pooled", "histogram"] = "flat"
    """Of the deepest quantized code: all its numbers, their mean over positions, or how often each code was chosen."""
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.001, 0.01, 0.1, 1.0, 10.0), min_length=1)
    """Inverse L2 strengths C of the logistic regression; validation picks one."""
    neighbours: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(1, 5, 11, 21), min_length=1)
    """Numbers of nearest neighbours; validation picks one."""


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """A task as a study sees it."""

    name: str
    revision: int
    """Raised when the same configuration would give other numbers; part of every run's identity."""
    objective: type[Schema]
    metrics: dict[str, Better]
    """The metrics in `result.json`, and which way is better."""
    select: str
    """The validation metric that picks the best checkpoint."""
    roles: dict[str, str] = field(default_factory=dict)
    """What a run may need of other runs, by role."""
    requires: tuple[str, ...] = ()
    """The roles that a run cannot do without."""
    labels: bool = False
    """Whether the data must have labels."""
    head: bool = False
    """Whether the model gets a classifier head."""
    fits: bool = False
    """Learns in one go from what it measures of the training view, instead of step by step."""
    default_checkpoint: Literal["best", "last"] = "best"
    """The checkpoint that the test metrics come from."""
    optional: dict[str, Better] = field(default_factory=dict)
    """Metrics that only some settings give."""
    as_published: dict[str, str] = field(default_factory=dict)
    """Mistakes of papers that can be switched on, by name, each in a line."""

    @property
    def declared(self) -> dict[str, Better]:
        """Every metric that a table may ask for."""
        everything = {**self.metrics, **self.optional}
        tests = {n: b for n, b in everything.items() if n.split("/")[0] in ("test", "val+test")}
        return {
            **self.metrics,
            **self.optional,
            **{f"{name}{suffix}": better for name, better in tests.items() for suffix in WATCHED},
        }


SPLITS = ("val", "test", "val+test", "train")
"""What can be measured at the end of a run; `train` only where nothing is held out."""

WATCHED = {
    "_last": "after the last epoch",
    "_last10": "mean over the last ten epochs",
    "_best_on_test": "of the epoch that is best on test: chosen by the test split, as papers did, and optimistic",
}
"""What `train.watch_test` adds to each test metric; the last one only under `as_published: [best_on_test]`."""

OF_EVERY_TASK = {
    "best_on_test": "test metrics of the epoch that is best on the test split are given too, marked so in their names"
}


def per_split(metrics: Mapping[str, Better]) -> dict[str, Better]:
    """The metrics of every split, by their full names."""
    return {f"{split}/{name}": better for split in SPLITS for name, better in metrics.items()}


INIT = {"init": "a run whose weights this one starts from"}
OF_CODES: dict[str, Better] = {"perplexity": "max", "usage": "max", "top10": "min"}
CLASSIFICATION: dict[str, Better] = {"accuracy": "max", "balanced_accuracy": "max", "macro_f1": "max", "auc": "max"}

TASKS: dict[str, TaskInfo] = {
    task.name: task
    for task in (
        TaskInfo(
            name="autoencode",
            revision=1,
            objective=AutoencodeObjective,
            metrics=per_split({"loss": "min", "mse": "min", "psnr": "max", **OF_CODES}),
            optional=per_split({"ssim": "max", "ssim_foreground": "max", "ssim_own_range": "max"}),
            select="val/mse",
            roles=INIT,
            as_published={
                "ssim_own_range": "ssim_own_range is given too: SSIM with each image's own max - min as range (SPEC §5)"
            },
        ),
        TaskInfo(
            name="classify",
            revision=1,
            objective=ClassifyObjective,
            metrics=per_split({"loss": "min", **CLASSIFICATION}),
            select="val/accuracy",
            roles=INIT,
            labels=True,
            head=True,
            as_published={"softmax_in_head": "cross-entropy takes the softmax for logits, as in SPEC §1"},
        ),
        TaskInfo(
            name="probe",
            revision=1,
            objective=ProbeObjective,
            metrics=per_split({**CLASSIFICATION, **{f"knn_{name}": better for name, better in CLASSIFICATION.items()}}),
            select="val/accuracy",
            roles=INIT,
            requires=("init",),
            labels=True,
            fits=True,
        ),
    )
}


def find_task(name: str) -> TaskInfo:
    """A task by its name, or by the import path of a user's own, whose class has it as `info`.

    Raises:
        UsageError: there is none.
    """
    if name in TASKS:
        return TASKS[name]
    if not is_import_path(name):
        raise UsageError(f"unknown task {name!r}", hint=suggest(name, TASKS))
    info = getattr(import_object(name, "task"), "info", None)
    if not isinstance(info, TaskInfo):
        raise UsageError(f"{name} is no task", hint="its class needs `info`, a medvq.config.tasks.Task")
    return info
