"""Curves for TensorBoard in the run folder. They are for people; nothing reads them back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medvq.extras import install_command, is_installed

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

POINTS = 10
"""Number of points per epoch, besides the metrics at its end."""
APART = 10
"""Smallest number of steps between two points, because writing one takes a part of a step's time."""


class Scalars:
    """Writes the curves of one attempt. Without TensorBoard it logs one line and writes nothing."""

    def __init__(self, folder: Path, *, step: int, steps_per_epoch: int) -> None:
        """Open the curves.

        Args:
            folder: folder of the event files.
            step: number of steps done before this attempt; points of earlier attempts after this step are hidden.
            steps_per_epoch: number of steps of an epoch.
        """
        self._every = max(APART, steps_per_epoch // POINTS)
        self._writer = _open(folder, step)

    def step(self, step: int, loss: float, lr: float) -> None:
        """Add the loss and the learning rate after `step` steps; most steps are skipped."""
        if step % self._every == 0:
            self.add(step, {"step/loss": loss, "step/lr": lr})

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write all points to disk. Called before a checkpoint, after which their steps are not repeated."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write the last points and close the files."""
        if self._writer is not None:
            self._writer.close()


def _open(folder: Path, step: int) -> SummaryWriter | None:
    if not is_installed("tensorboard"):
        log.info("no TensorBoard curves: tensorboard is not installed (%s)", install_command("tensorboard"))
        return None
    from torch.utils.tensorboard import SummaryWriter

    # TensorBoard hides earlier points from `purge_step` on; the point at `step` itself is still valid.
    return SummaryWriter(str(folder), purge_step=step + 1, flush_secs=10)
