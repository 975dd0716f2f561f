"""Write curves to TensorBoard files in the run folder. medvq never reads them back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

POINTS = 10
"""Number of points per epoch for the values of single steps."""
APART = 10
"""Smallest number of steps between two points. Writing a point takes some of a step's time."""


class Scalars:
    """Curves of one attempt, from `step` on. Points that an earlier attempt wrote for later steps are hidden."""

    def __init__(self, folder: Path, *, step: int, steps_per_epoch: int) -> None:
        self._every = max(APART, steps_per_epoch // POINTS)
        # TensorBoard hides old points from `purge_step` on. The old point at `step` itself is still valid.
        self._writer = SummaryWriter(str(folder), purge_step=step + 1, flush_secs=10)

    def step(self, step: int, loss: float, lr: float) -> None:
        """Add the loss and the learning rate after `step` steps in total. Most steps add no point."""
        if step % self._every == 0:
            self.add(step, {"step/loss": loss, "step/lr": lr})

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each named curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write all points to disk. Call it before a checkpoint, after which these steps are not run again."""
        self._writer.flush()

    def close(self) -> None:
        """Write the last points and close the file."""
        self._writer.close()
