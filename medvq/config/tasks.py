"""What a study can ask for: each task with its objective, the roles it may need, and the metrics it declares.

The code of a task is in `medvq.train.tasks`; what stands here can be read without torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from medvq.config.schema import Schema


class AutoencodeObjective(Schema):
    """What autoencoding minimises: MSE of every active level's reconstruction plus its commitment losses."""

    stagger: int = Field(default=0, ge=0)
    """Epochs after which the next level of a stacked model joins; 0 trains all levels from the start (SPEC §1)."""


class ClassifyObjective(Schema):
    """What classification minimises: cross-entropy on logits, and on some epochs the reconstruction too."""

    reconstruct_every: int = Field(default=0, ge=0)
    """Every N-th epoch adds MSE of the deepest reconstruction and its commitment losses (SPEC §1: 2); 0 never."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task as a study sees it."""

    name: str
    revision: int
    """Raised when the same configuration would give other numbers; part of every run's identity."""
    objective: type[Schema]
    metrics: dict[str, Literal["min", "max"]]
    """The metrics in `result.json`, and which way is better."""
    select: str
    """The validation metric that picks the best checkpoint."""
    roles: dict[str, str] = field(default_factory=dict)
    """What a run may need of other runs, by role."""
    labels: bool = False
    """Whether the data must have labels."""
    default_checkpoint: Literal["best", "last"] = "best"
    """The checkpoint that the test metrics come from."""


SPLITS = ("val", "test", "val+test", "train")
"""What can be measured at the end of a run; `train` only where nothing is held out."""


def _per_split(metrics: dict[str, Literal["min", "max"]]) -> dict[str, Literal["min", "max"]]:
    return {f"{split}/{name}": better for split in SPLITS for name, better in metrics.items()}


INIT = {"init": "a run whose weights this one starts from"}

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="autoencode",
            revision=1,
            objective=AutoencodeObjective,
            metrics=_per_split({"loss": "min", "mse": "min", "psnr": "max", "perplexity": "max", "usage": "max"}),
            select="val/mse",
            roles=INIT,
        ),
        Task(
            name="classify",
            revision=1,
            objective=ClassifyObjective,
            metrics=_per_split(
                {"loss": "min", "accuracy": "max", "balanced_accuracy": "max", "macro_f1": "max", "auc": "max"}
            ),
            select="val/accuracy",
            roles=INIT,
            labels=True,
        ),
    )
}
