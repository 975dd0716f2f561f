"""Interface of tasks: the losses of a training step, the metrics of an evaluation, the artifacts of a run."""

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
    """Part of a global batch that this rank holds, on its device."""

    keys: Sequence[str]
    """Keys of the B images; empty in training."""
    x: Tensor
    """Images (B, C, H, W), normalised."""
    label: Tensor
    """Class indices (B,) int64; -1 for images without a label."""
    part: Tensor
    """Dataset of each image, (B,) int64: its index in the mixture."""
    masked: Tensor | None = None
    """Images (B, C, H, W) with noise outside their masks; None unless the training data are read with masks."""
    inside: Tensor | None = None
    """Whether a pixel is inside the mask, (B, 1, H, W) bool; False everywhere for an image without a mask. None in
    training, and unless the objective `reads_masks`."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Measurements of one split. Each of its N images occurs once, in the order of the view."""

    keys: list[str]
    """Keys of the images."""
    rows: dict[str, Array]
    """Values per image by name, (N, …)."""
    totals: dict[str, Array]
    """Sums over all images by name."""
    classes: tuple[str, ...]
    """Names of the classes; empty if the data have no classes."""


@dataclass(frozen=True, kw_only=True)
class TaskContext:
    """What a task uses besides its model."""

    objective: Any
    """Settings of the objective, an instance of the task's `info.objective`."""
    pixels: Pixels
    """Converts between stored pixels and the model's inputs."""
    classes: tuple[str, ...] = ()
    """Names of the classes; empty if the task does not use labels."""
    as_published: frozenset[str] = frozenset()
    """Names of known mistakes of published implementations that are switched on."""
    needs: Needs = field(default_factory=lambda: Needs({}))
    """Runs that this run needs, by role, without `init`. Each is opened at first access. Its model is on the device of
    this run, frozen and in evaluation mode."""


class Task(nn.Module, ABC):
    """A model together with its losses and metrics. `forward` returns the losses of a training step.

    A task outside medvq derives from this class and sets `info`. If `info` declares roles other than `init`, the task
    must read `self.needs["role"]` for each of them; otherwise creating the class raises a UsageError.
    """

    info: ClassVar[TaskInfo]
    """Facts about the task with which studies are checked, such as its metrics and roles."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_roles(cls, Task)

    def __init__(self, model: nn.Module, context: TaskContext) -> None:
        """Create the task.

        Args:
            model: the model to train.
            context: objective, pixel scaling, classes and needed runs.

        Raises:
            UsageError: the task does not support the model.
        """
        super().__init__()
        self.model, self.objective, self.pixels = model, context.objective, context.pixels
        self.classes, self.as_published, self.needs = context.classes, context.as_published, context.needs

    @abstractmethod
    def forward(self, batch: Batch, draws: Draws, epoch: int) -> dict[str, Tensor]:
        """Compute the losses of one training step.

        Args:
            batch: this rank's part of the global batch.
            draws: random numbers of this step.
            epoch: epoch, counted from 0.

        Returns:
            Losses () by name, means over elements. The first one is called `loss` and is minimised; the others are
            logged.
        """

    def stage(self, epoch: int) -> int:
        """Return a number that differs between epochs in which `forward` uses different parameters."""
        return 0

    @abstractmethod
    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Measure a batch. It is called in evaluation mode without gradients.

        Returns:
            Values per image by name, (B, …), and totals by name, which are summed over batches and ranks.
        """

    @abstractmethod
    def metrics(self, found: Evaluated) -> dict[str, float]:
        """Return the metrics of one split by name, without the name of the split."""

    def prediction_columns(self, found: Evaluated) -> dict[str, Any]:
        """Return the columns of the predictions file, (N,) each, besides `key`.

        By default these are all rows with one number per image.
        """
        return {name: row for name, row in found.rows.items() if row.ndim == 1}

    def write_artifacts(self, folder: Path, found: Evaluated, sample: Batch) -> None:
        """Write artifacts of a finished run; none by default.

        Args:
            folder: an existing folder for them.
            found: measurements of the last held-out split, or of the training images if nothing is held out.
            sample: a few images of that split.
        """

    def fit(self, train: Evaluated, val: Evaluated) -> None:
        """Fit the task to measurements of the training and validation splits, instead of training steps.

        It is called only if `info.fits`.
        """
        raise NotImplementedError


def image_rows(x: Tensor) -> Array:
    """Return images x (B, C, H, W) in [0, 1] as a float array (B, H, W, C), for figures."""
    out: Array = torch.movedim(x, 1, -1).cpu().numpy()
    return out
