"""The few collectives that models need; without torch.distributed there is one rank and they do nothing."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """How many ranks there are; asked anew each time, since a process group may come later."""
    return dist.get_world_size() if _initialised() else 1


def rank() -> int:
    """Which rank this is, from 0."""
    return dist.get_rank() if _initialised() else 0


def sum_over_ranks_(tensor: Tensor) -> Tensor:
    """Replace `tensor` by its sum over all ranks."""
    if _initialised():
        dist.all_reduce(tensor)
    return tensor


def from_first_rank_(tensor: Tensor) -> Tensor:
    """Replace `tensor` by rank 0's."""
    if _initialised():
        dist.broadcast(tensor, src=0)
    return tensor


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()
