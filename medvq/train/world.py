"""The processes that share a run: rank, world size, device, and the few collective operations that training needs."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist


@dataclass(frozen=True, kw_only=True)
class World:
    """A worker group as one of its processes sees it."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = 1
    launcher: str = "in-process"
    control: Any = None
    """A gloo group for small objects if the main group is NCCL; None uses the main group."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only rank that writes files."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Return the `value` of every rank, in rank order, on every rank."""
        if self.size == 1:
            return [value]
        out: list[Any] = [None] * self.size
        dist.all_gather_object(out, value, group=self.control)
        return out

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's `value` on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of `tensor` over all ranks, on every rank."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor


@contextlib.contextmanager
def process_group(
    *, rank: int, size: int, device: torch.device, threads: int, launcher: str, store: Path
) -> Iterator[World]:
    """Initialize the process group of ranks on one machine; they find each other through the file `store`.

    torch's usual rendezvous is a TCP server that answers everyone who can reach the machine, so it is not used.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if size == 1:
        yield World(device=device, threads=threads, launcher=launcher)
        return
    loopback = "lo" if sys.platform == "linux" else "lo0"
    os.environ.update(GLOO_SOCKET_IFNAME=loopback, NCCL_SOCKET_IFNAME=loopback)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=size,
        timeout=timedelta(minutes=30),
    )
    control = dist.new_group(backend="gloo") if device.type == "cuda" else None
    yield World(rank=rank, size=size, device=device, threads=threads, launcher=launcher, control=control)
    # Not after an error: other ranks may then wait for this one, and only the end of this process wakes them.
    dist.destroy_process_group()


def and_leave(work: Callable[[], object]) -> NoReturn:
    """Do `work`, then end the process at once, with exit code 0, or 1 after an error.

    The interpreter is not shut down in the usual way. DDP never frees its process group, and if a thread of that group
    frees a tensor while the interpreter shuts down, the process aborts although all its work is done.
    """
    code = 0
    try:
        work()
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def pin(threads: int) -> None:
    """Fix what could change the order of sums: the number of threads and the choice of kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    # cuBLAS is deterministic only with a fixed workspace. It reads this variable when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def lost_peer(error: BaseException) -> bool:
    """Return whether an error only says that another rank is gone. That rank has reported why, or its process died."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))
