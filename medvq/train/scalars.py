"""TensorBoard's files in the run folder: curves for a person who watches. Nothing is read back from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

POINTS = 10
"""Points of an epoch between its metrics."""
APART = 10
"""Steps between two points at least: drawing one takes some time of a step."""


class Scalars:
    """Curves of one attempt, from `step` on; what an earlier attempt has drawn beyond that is taken back."""

    def __init__(self, folder: Path, *, step: int, steps_per_epoch: int) -> None:
        self._every = max(APART, steps_per_epoch // POINTS)
        # TensorBoard leaves out what was there from `purge_step` on; the point at `step` itself is still good.
        self._writer = SummaryWriter(str(folder), purge_step=step + 1, flush_secs=10)

    def step(self, step: int, loss: float, lr: float) -> None:
        """After `step` steps in all; most steps leave no point."""
        if step % self._every == 0:
            self.add(step, {"step/loss": loss, "step/lr": lr})

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Points at a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Have every point on disk, before a checkpoint says that they need not be drawn again."""
        self._writer.flush()

    def close(self) -> None:
        """Write the last points."""
        self._writer.close()
