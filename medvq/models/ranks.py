"""Collective operations that models use. Without a process group there is one rank, and they do nothing."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of ranks. Do not cache it: the process group may be initialised later."""
    return dist.get_world_size() if _initialised() else 1


def rank() -> int:
    """Return the rank of this process, counted from 0."""
    return dist.get_rank() if _initialised() else 0


def sum_over_ranks_(tensor: Tensor) -> Tensor:
    """Replace `tensor` in place by its sum over all ranks, and return it."""
    if _initialised():
        dist.all_reduce(tensor)
    return tensor


def from_first_rank_(tensor: Tensor) -> Tensor:
    """Replace `tensor` in place by the tensor of rank 0, and return it."""
    if _initialised():
        dist.broadcast(tensor, src=0)
    return tensor


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()
