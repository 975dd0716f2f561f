"""One small all-reduce per step: the losses of the global batch, and whether a rank was asked to stop.

Its result is read a few steps later, so that no rank waits for it. All ranks act upon it at the same step.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from medvq.train.world import World


@dataclass
class PendingSync:
    """The all-reduce of one step, which may still be running."""

    step: int
    values: torch.Tensor
    """(1 + losses,) float64 on the CPU: how many ranks were asked to stop, then the sum of each loss over ranks."""
    wait: Callable[[], Any]
    """Returns when the values are there."""


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite. `step` is the step in the run, `names` are the losses."""

    def __init__(self, step: int, names: list[str]) -> None:
        super().__init__(f"loss is not finite at step {step}: {', '.join(names)}")
        self.step, self.names = step, names


class LossSync:
    """Sums losses over an epoch, and lets all ranks agree to stop.

    `sums` and `steps` are those of the global batch and equal on all ranks. A checkpoint must contain them.
    """

    def __init__(self, world: World, lag: int | None = None) -> None:
        self.world = world
        self.lag = lag if lag is not None else (4 if world.device.type == "cuda" else 1)
        self.names: list[str] = []
        self.sums: list[float] = []
        self.steps = 0
        self.latest = math.nan
        self._pending: deque[PendingSync] = deque()
        self._side: Any = None
        self._stop_at: int | None = None
        self._bad: tuple[int, list[str]] | None = None

    def send(self, step: int, losses: dict[str, torch.Tensor], stop: bool) -> None:
        """Start the all-reduce of step `step` of the run."""
        if not self.names:
            self.names, self.sums = list(losses), [0.0] * len(losses)
        values = torch.stack([v.detach().double() for v in losses.values()])
        values = torch.cat([values.new_tensor([float(stop)]), values])
        self._pending.append(self._on_gpu(step, values) if values.is_cuda else self._on_cpu(step, values))

    def _on_cpu(self, step: int, values: torch.Tensor) -> PendingSync:
        work = dist.all_reduce(values, async_op=True) if self.world.size > 1 else None
        return PendingSync(step, values, work.wait if work else lambda: None)

    def _on_gpu(self, step: int, values: torch.Tensor) -> PendingSync:
        """Reduce and copy in a side stream: reading in the main stream would wait for all queued kernels."""
        side = self._side = self._side or torch.cuda.Stream(values.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(values.device))
        values.record_stream(side)
        with torch.cuda.stream(side):
            if self.world.size > 1:
                dist.all_reduce(values)
            here = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            here.copy_(values, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(side)
        return PendingSync(step, here, done.synchronize)

    def stop_now(self, step: int) -> bool:
        """Return whether all ranks stop after this step.

        Raises:
            NonFiniteLossError: a loss was not finite. Every rank raises it at the same step.
        """
        while self._pending and self._pending[0].step <= step - self.lag:
            self._take()
        if self._bad and self._bad[0] + self.lag <= step:
            raise NonFiniteLossError(*self._bad)
        return self._stop_at is not None and self._stop_at + self.lag <= step

    def flush(self) -> None:
        """Wait for every running all-reduce, without acting on its result."""
        while self._pending:
            self._take()

    def end_epoch(self) -> dict[str, float]:
        """Return the mean of every loss over the epoch's steps, and start the next epoch.

        Raises:
            NonFiniteLossError: a loss was not finite. Every rank raises it.
        """
        self.flush()
        if self._bad:
            raise NonFiniteLossError(*self._bad)
        means = {n: s / max(self.steps, 1) for n, s in zip(self.names, self.sums, strict=True)}
        self.names, self.sums, self.steps = [], [], 0
        return means

    def wants_stop(self) -> bool:
        """Return whether a rank was asked to stop. It is the same on all ranks after `flush`."""
        return self._stop_at is not None

    @property
    def failing(self) -> bool:
        """Whether a loss was NaN or infinite. It is the same on all ranks after `flush`."""
        return self._bad is not None

    def state(self) -> dict[str, Any]:
        """Return the sums so far, for a checkpoint."""
        self.flush()
        return {"names": self.names, "sums": self.sums, "steps": self.steps}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.names, self.sums, self.steps = list(state["names"]), list(state["sums"]), int(state["steps"])

    def _take(self) -> None:
        sync = self._pending.popleft()
        sync.wait()
        stop, *losses = sync.values.tolist()
        losses = [v / self.world.size for v in losses]
        if stop and self._stop_at is None:
            self._stop_at = sync.step
        bad = [n for n, v in zip(self.names, losses, strict=True) if not math.isfinite(v)]
        if bad and self._bad is None:
            self._bad = (sync.step, bad)
        self.sums = [s + v for s, v in zip(self.sums, losses, strict=True)]
        self.steps += 1
        self.latest = losses[0]
