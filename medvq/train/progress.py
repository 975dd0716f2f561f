"""progress.json: where the current attempt is, for display only."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

INTERVAL = 0.5
"""Seconds between two writes."""


class Progress:
    """Writes progress.json at most twice a second, without waiting for the disk. A lost update does not matter."""

    def __init__(self, path: Path, *, epochs: int, steps_per_epoch: int, batch_size: int, done: int) -> None:
        self.path, self.epochs, self.steps, self.batch_size = path, epochs, steps_per_epoch, batch_size
        self._start, self._first, self._last = time.monotonic(), done, 0.0

    def show(self, step: int, loss: float, phase: str = "training") -> None:
        """Write the progress after `step` steps in total.

        Args:
            step: finished steps of the run.
            loss: a recent loss of the global batch.
            phase: what the run does; an update with another phase than `training` is always written.
        """
        now = time.monotonic()
        if now - self._last < INTERVAL and phase == "training":
            return
        self._last = now
        done = step - self._first  # 0 at the first update: there is no speed to show yet
        rate = done / max(now - self._start, 1e-9)
        left = self.epochs * self.steps - step
        record = {
            "phase": phase,
            "step": step,
            "steps": self.epochs * self.steps,
            "epoch": min(step // self.steps + 1, self.epochs),
            "epochs": self.epochs,
            "loss": loss if abs(loss) < float("inf") else None,
            "images_per_s": round(rate * self.batch_size, 1) if done else None,
            "seconds_left": round(left / rate, 1) if done else None,
        }
        beside = self.path.with_name(f".{self.path.name}.tmp")
        try:
            beside.write_text(json.dumps(record))
            os.replace(beside, self.path)
        except OSError:
            pass
