"""What the loop asks of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medvq.config.tasks import TaskInfo as Info
from medvq.models.draws import Draws
from medvq.train.pixels import Pixels

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


class Task(nn.Module, ABC):
    """A model with what is asked of it. `forward` gives named losses, of which the first is minimised.

    A user's own task derives from this, and has `info`; those that come with medvq are in `medvq.config.tasks.TASKS`.
    """

    info: ClassVar[Info]
    """What a study may say about the task."""

    def __init__(
        self,
        model: nn.Module,
        objective: Any,
        pixels: Pixels,
        classes: Sequence[str],
        as_published: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.model, self.objective, self.pixels, self.classes = model, objective, pixels, tuple(classes)
        self.as_published = frozenset(as_published)

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

    @abstractmethod
    def write_artifacts(self, folder: Path, found: Evaluated, sample: Batch) -> None:
        """Write artifacts of the test split into `folder`; `sample` holds its first images."""

    def fit(self, train: Evaluated, val: Evaluated) -> None:
        """Learn from what was measured of the training view and of validation; only where `info.fits`."""
        raise NotImplementedError


def image_rows(x: Tensor) -> Array:
    """(B, C, H, W) in [0, 1] as float (B, H, W, C) on the CPU, for pictures."""
    out: Array = torch.movedim(x, 1, -1).cpu().numpy()
    return out
