"""Loader processes: they are sent positions, and answer with batches in shared memory."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvq.errors import MedvqError
from medvq.processes import Pool
from medvq.shards.load.buffers import Buffers, Kept
from medvq.shards.load.reader import Reader


@dataclass(frozen=True, eq=False)
class BatchRequest:
    """One batch to read."""

    positions: NDArray[np.int64]
    """(B,) positions in the view."""
    crops: NDArray[np.float64] | None
    """(B, 3) in [0, 1): where windows are cut, down and across, and how far the image is turned. None: cut the centre
    and do not turn."""


@dataclass(frozen=True, eq=False)
class SlotRequest:
    """A batch to read into a slot of shared memory."""

    batch: BatchRequest
    slot: int
    have: NDArray[np.bool_] | None
    """(B,) which samples are kept in memory already; None if nothing is kept."""


def read_batch(
    reader: Reader, batch: BatchRequest, into: Buffers, kept: Kept | None, have: NDArray[np.bool_] | None
) -> None:
    """Read `batch` into `into`: copy the samples that `have` (B,) marks from `kept`, decode the others and keep them.

    Raises:
        DataError: a sample is damaged.
    """
    if kept is None or have is None:
        reader.read(batch.positions.tolist(), batch.crops, into)
        return
    missing = batch.positions[~have]
    if len(missing):
        reader.read(missing.tolist(), None, into)
        kept.copy_in(missing, into)
    if len(missing) < len(batch.positions):
        kept.copy_out(batch.positions, into)


def start_workers(count: int, reader: Reader, buffers: list[Buffers], kept: Kept | None) -> Pool[SlotRequest, None]:
    """Start `count` loader processes, which read batches into `buffers`."""

    def read(request: SlotRequest) -> None:
        try:
            read_batch(reader, request.batch, buffers[request.slot], kept, request.have)
        except MedvqError:
            raise
        except Exception as e:
            raise MedvqError(f"a loader process failed: {type(e).__name__}: {e}") from e

    return Pool(
        count,
        read,
        name="loader",
        hint="-9 is most often the kernel's answer to too little memory: use fewer loader processes",
        begin=_use_one_thread,
    )


def _use_one_thread() -> None:
    """Use one torch thread: the processes are the parallelism, and OpenMP's threads do not survive a fork."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
