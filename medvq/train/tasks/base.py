"""The interface of a task: what a training step computes, what evaluation measures, what a run leaves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medvq.config.task_info import TaskInfo
from medvq.models.draws import Draws
from medvq.train.pixels import Pixels
from medvq.train.tasks.roles import check_roles
from medvq.train.trained import Needs

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's share of a global batch, on its device."""

    keys: Sequence[str]
    x: Tensor
    """(B, C, H, W) normalized."""
    label: Tensor
    """(B,) int64, -1 where there is none."""
    part: Tensor
    """(B,) int64: which dataset of a mixture each image is from."""
    masked: Tensor | None = None
    """(B, C, H, W): x with noise outside the masks, where the view asks for masks; training only."""
    inside: Tensor | None = None
    """(B, 1, H, W) bool: inside the masks, where the objective `reads_masks`; held-out images only. Nothing of an
    image without a mask."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One split, each sample once, rows sorted by position in the view."""

    keys: list[str]
    rows: dict[str, Array]
    """Per-sample values (N, …)."""
    totals: dict[str, Array]
    """Sums over all samples and ranks."""
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TaskContext:
    """What a task works with, beside its model."""

    objective: Any
    """Settings of what is minimised, an instance of the task's `info.objective`."""
    pixels: Pixels
    """How pixels are scaled."""
    classes: tuple[str, ...] = ()
    """Names of the classes; empty if the data have no labels that matter."""
    as_published: frozenset[str] = frozenset()
    """Mistakes of papers that are switched on."""
    needs: Needs = field(default_factory=lambda: Needs({}))
    """The runs that this one needs, by role, `init` excepted. Each is opened when it is first asked for, with its
    model frozen and in evaluation mode on the run's device."""


class Task(nn.Module, ABC):
    """A model with what is asked of it. `forward` gives named losses, the first of which is minimised.

    A user's own task derives from this class and sets `info`. If `info` declares roles other than `init`, the task must
    read `self.needs["role"]` for each of them; a role that is declared and never read is an error when the class is
    created.
    """

    info: ClassVar[TaskInfo]
    """What a study may say about the task."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_roles(cls, Task)

    def __init__(self, model: nn.Module, context: TaskContext) -> None:
        """Take the model to train.

        Raises:
            UsageError: the task cannot use such a model.
        """
        super().__init__()
        self.model, self.objective, self.pixels = model, context.objective, context.pixels
        self.classes, self.as_published, self.needs = context.classes, context.as_published, context.needs

    @abstractmethod
    def forward(self, batch: Batch, draws: Draws, epoch: int) -> dict[str, Tensor]:
        """Losses of one training step, means over elements; the first, `loss`, is the one to minimise.

        `epoch` counts from 0.
        """

    def stage(self, epoch: int) -> int:
        """A number that changes with the epoch (from 0) wherever `forward` begins to use other parameters."""
        return 0

    @abstractmethod
    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Per-sample rows (B, …) and totals to be summed, in evaluation mode without gradients."""

    @abstractmethod
    def metrics(self, found: Evaluated) -> dict[str, float]:
        """The task's declared metrics of one split, without the split's name."""

    def prediction_columns(self, found: Evaluated) -> dict[str, Any]:
        """The columns beside `key`, (N,) each, of what is kept of every image; by default all that is one number."""
        return {name: row for name, row in found.rows.items() if row.ndim == 1}

    def write_artifacts(self, folder: Path, found: Evaluated, sample: Batch) -> None:
        """Write artifacts of the test split into `folder`; none by default. `sample` holds the first images."""

    def fit(self, train: Evaluated, val: Evaluated) -> None:
        """Learn from what was measured of the training view and of validation; only where `info.fits`."""
        raise NotImplementedError


def image_rows(x: Tensor) -> Array:
    """(B, C, H, W) in [0, 1] as float (B, H, W, C) on the CPU, for pictures."""
    out: Array = torch.movedim(x, 1, -1).cpu().numpy()
    return out
