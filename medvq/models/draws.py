"""Random numbers keyed by (seed, step, purpose): generated for the global batch, sliced by rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medvq.keys import draw_key


@dataclass(frozen=True)
class Draws:
    """All random numbers of one training step.

    A draw is a pure function of (seed, step, purpose). It does not depend on earlier draws, on the number of ranks, or
    on the device. Each rank gets a contiguous slice of the draw for the global batch, in rank order.

    Raises:
        ValueError: `rank` is not in `range(world)`.
    """

    seed: int
    """Seed of the run."""
    step: int
    """Global training step, counted from 0."""
    rank: int = 0
    """Rank of this process, in `range(world)`."""
    world: int = 1
    """Number of ranks that share the global batch."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} is not in range({self.world})")

    def generator(self, purpose: str) -> torch.Generator:
        """Return a CPU generator for one purpose, with the same state on every rank."""
        return torch.Generator().manual_seed(draw_key(self.seed, self.step, purpose))

    def normal(self, shape: Sequence[int], purpose: str, device: torch.device | str = "cpu") -> Tensor:
        """Return this rank's slice of standard normal numbers for the global batch.

        Args:
            shape: shape (B, …) of this rank's slice, which must be the same on every rank.
            purpose: what the numbers are for; different purposes give independent numbers.
            device: device of the result; the numbers do not depend on it.
        """
        return self._slice(torch.randn(self._global(shape), generator=self.generator(purpose)), shape, device)

    def uniform(self, shape: Sequence[int], purpose: str, device: torch.device | str = "cpu") -> Tensor:
        """Return this rank's slice of uniform numbers in [0, 1) for the global batch; arguments as for `normal`."""
        return self._slice(torch.rand(self._global(shape), generator=self.generator(purpose)), shape, device)

    def chance(self, count: int, p: float, purpose: str) -> Tensor:
        """Return (count,) bool on the CPU, each True with probability `p`; all True if `p` is 1."""
        return self.uniform((count,), purpose) < p

    def positions(self, count: int, total: int, purpose: str) -> Tensor:
        """Return `count` distinct positions in `range(total)`, (count,) int64, the same on every rank.

        If count > total, every position occurs once, followed by count − total further draws with replacement.
        """
        generator = self.generator(purpose)
        # A full permutation costs O(total). For a small count, drawing twice as many with replacement is cheaper.
        if total > 1 << 16 and count * 8 < total:
            candidates = torch.randint(total, (count * 2,), generator=generator).tolist()
            distinct = list(dict.fromkeys(candidates))[:count]
            if len(distinct) == count:
                return torch.tensor(distinct, dtype=torch.int64)
        first = torch.randperm(total, generator=generator)[:count]
        again = torch.randint(total, (count - len(first),), generator=generator)
        return torch.cat([first, again])

    def _global(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (shape[0] * self.world, *shape[1:])

    def _slice(self, values: Tensor, shape: Sequence[int], device: torch.device | str) -> Tensor:
        return values[self.rank * shape[0] : (self.rank + 1) * shape[0]].to(device, non_blocking=True)
