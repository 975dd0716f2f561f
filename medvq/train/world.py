"""The processes that share a run: rank, world size, device, and the few collectives that training needs."""

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
    """One process's view of its worker group."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = 1
    launcher: str = "in-process"
    control: Any = None
    """A gloo group for small objects where the main one is NCCL; None uses the main one."""

    @property
    def is_main(self) -> bool:
        """Rank 0 writes; the others only compute."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, in rank order, on every rank."""
        if self.size == 1:
            return [value]
        out: list[Any] = [None] * self.size
        dist.all_gather_object(out, value, group=self.control)
        return out

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value`, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of `tensor` over ranks, on every rank."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor


@contextlib.contextmanager
def process_group(
    *, rank: int, size: int, device: torch.device, threads: int, launcher: str, store: Path
) -> Iterator[World]:
    """The worker group of ranks on one machine, which meet through the file `store`.

    torch's usual meeting place is a TCP server that answers everyone who can reach the machine.
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
    # After an error other ranks may be waiting for this one: the end of the process tells them, this could not.
    dist.destroy_process_group()


def and_leave(work: Callable[[], object]) -> NoReturn:
    """Do `work`, then end the process with 0, or with 1 after an error, without taking the interpreter down.

    DDP never frees its process group. A thread of that group that still drops a tensor while the interpreter goes
    down aborts the whole process, after all its work was done.
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
    """Fix what could change the order of sums: threads and the choice of kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    # cuBLAS is deterministic only with a fixed workspace; it is read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def lost_peer(error: BaseException) -> bool:
    """Whether an error only says that another rank is gone. That rank knows why, or its process died."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))
