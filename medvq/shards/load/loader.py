"""Batches of a view as torch tensors: this rank's slice of every global batch, in a reproducible order.

The pixels of a batch depend on the view, the seed and the step alone. They do not depend on the number of workers or
loader processes, on what is kept in memory, or on the step at which an epoch is resumed.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from medvq.errors import MedvqError, UsageError
from medvq.keys import draw_key
from medvq.processes import Pool, Ticket
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.buffers import Kept, Shape, Slots, split
from medvq.shards.load.reader import Reader
from medvq.shards.load.view import TRAIN, View, ViewPart
from medvq.shards.load.workers import BatchRequest, SlotRequest, read_batch, start_workers
from medvq.shards.sampling.order import (
    epoch_order,
    eval_slices,
    random_bits,
    random_unit,
    rank_slice,
    shares,
    steps_per_epoch,
)

KEEP_BYTES = 1 << 30
"""A view whose decoded images take at most so many bytes (per rank) is decoded once and kept in memory."""

_HELD = 3
"""Number of batches that a caller may hold before batches are copied out of the slots."""

_AHEAD = 3
"""Number of batches requested in advance from each loader process."""


@dataclass(frozen=True, eq=False)
class RawBatch:
    """One rank's slice of a global batch."""

    view: View
    positions: torch.Tensor
    """(B,) int64 positions in the view."""
    image: torch.Tensor
    """(B, C, H, W) uint8 in [0, 255], channels last in memory."""
    label: torch.Tensor
    """(B,) int64 indices into `view.classes`, -1 for a sample without a label."""
    mask: torch.Tensor | None
    """(B, 1, H, W) uint8, where 255 means keep; None if the view has no masks."""

    @property
    def part(self) -> torch.Tensor:
        """(B,) int64 index of the part of the view that each sample is from."""
        return torch.from_numpy(self.view.samples.part[self.positions.numpy()].astype(np.int64))

    @cached_property
    def keys(self) -> list[str]:
        """The samples' keys. They are looked up on first use, as training does not need them."""
        return self.view.keys(self.positions.numpy())

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class _Started:
    """A batch in progress in a loader process, or (without a ticket) one to read when it is asked for."""

    request: BatchRequest
    slot: int | None
    workers: Pool[SlotRequest, None] | None
    ticket: Ticket[None] | None


class Loader:
    """Reads a view of datasets in batches, in an order that depends on the seed and the epoch alone.

    `Loader.open` makes one for a single dataset. With several ranks, each rank's loader gives its slice of every
    global batch: all ranks together see the same samples in the same order as one rank would. A `RawBatch` has
    `image`, (B, C, H, W) uint8 in [0, 255], `label`, (B,) int64 with -1 for none, `mask`, and `keys`. The last batch
    of an epoch is filled from the start of its order, so that all have the same size.

    Example:
        >>> import medvq
        >>> with medvq.Loader.open("datasets/smear", split="train", batch_size=16, size=24) as loader:
        ...     shapes = [tuple(batch.image.shape) for batch in loader.epoch(0)]
        ...     later = [tuple(batch.image.shape) for batch in loader.epoch(0, start_step=4)]
        >>> len(shapes), shapes[0]
        (6, (16, 3, 24, 24))
        >>> later == shapes[4:]
        True
    """

    def __init__(
        self,
        view: View,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        processes: int = 0,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        """Make a loader of one rank.

        Args:
            view: the samples to read, and how their pixels are made to fit.
            batch_size: samples of a global batch, over all ranks.
            seed: seed of the order and of random crops.
            rank: which of the `world` ranks this is.
            world: number of ranks; it divides `batch_size`.
            processes: processes that decode ahead; with 0 the caller's process decodes when a batch is asked for.
            keep_bytes: keep decoded images in memory if they fit in this many bytes.

        Raises:
            UsageError: an argument is out of range, or the view has no samples.
        """
        if batch_size < 1 or batch_size % world:
            raise UsageError(
                f"{world} workers do not divide the global batch of {batch_size}",
                hint="choose a batch_size that is a multiple of the number of workers",
            )
        if not 0 <= rank < world:
            raise UsageError(f"rank {rank} is not in a world of {world}")
        if processes < 0:
            raise UsageError(f"the number of loader processes cannot be {processes}")
        self.view, self.batch_size, self.seed = view, batch_size, seed
        self.rank, self.world, self.processes = rank, world, processes
        self._keep_bytes = keep_bytes
        self._facts = view.order_facts()
        self._crops = any(part.fit == "crop" for part in view.parts)
        self._workers: Pool[SlotRequest, None] | None = None

    @classmethod
    def open(
        cls,
        dataset: Dataset | str | os.PathLike[str],
        *,
        split: str = TRAIN,
        batch_size: int,
        size: int | tuple[int, int] | None = None,
        channels: Literal[1, 3] | None = None,
        subset: float = 100.0,
        balance: Literal["none", "class"] = "none",
        masks: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        processes: int = 0,
    ) -> Loader:
        """Make a loader of one split of one dataset.

        Args:
            dataset: a packed dataset, or its folder.
            split: the split to read.
            batch_size: images of a global batch, over all ranks.
            size: side of the images in pixels, or (height, width); by default the size that all images have.
            channels: 1 for grey, 3 for RGB; by default as packed.
            subset: per cent of every class of the train split, in (0, 100]; subsets are nested.
            balance: `class` draws all classes equally often, with replacement.
            masks: read masks too; an image without one gets a mask that keeps everything.
            seed: seed of the order.
            rank: which of the `world` ranks this is.
            world: number of ranks; it divides `batch_size`.
            processes: processes that decode ahead.

        Raises:
            NotFoundError: there is no such dataset.
            UsageError: the dataset has no such split, its images have different sizes and `size` is not given, or an
                argument is out of range.
        """
        data = dataset if isinstance(dataset, Dataset) else Dataset.open(os.fspath(dataset))
        image = data.manifest.image
        if isinstance(size, int):
            size = (size, size)
        elif size is None:
            if not (image.width and image.height):
                raise UsageError("the images have different sizes", where=str(data.path), hint="give `size`")
            size = (image.height, image.width)
        view = View(
            parts=(ViewPart(dataset=data),),
            splits=(split,),
            subset=subset,
            balance=balance,
            size=size,
            channels=channels or (1 if image.channels == 1 else 3),
            masks=masks,
        )
        return cls(view, batch_size, seed, rank, world, processes)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the loader processes; reading again starts new ones."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    @property
    def steps_per_epoch(self) -> int:
        """Number of global batches in an epoch."""
        return steps_per_epoch(len(self._facts), self.batch_size)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[RawBatch]:
        """Yield the rank's batches of `epoch` from `start_step` on; earlier steps are not read.

        Raises:
            UsageError: the epoch does not have that step.
            DataError: a sample is damaged.
            MedvqError: a loader process died.
        """
        if not 0 <= start_step <= self.steps_per_epoch:
            raise UsageError(f"step {start_step} is not in an epoch of {self.steps_per_epoch} steps")
        order = epoch_order(self._facts, self.seed, epoch, self.batch_size)
        first = epoch * self.steps_per_epoch
        return self._batches(
            BatchRequest(rank_slice(order[step], self.rank, self.world), self._crops_of(first + step))
            for step in range(start_step, self.steps_per_epoch)
        )

    def evaluate(self) -> Iterator[RawBatch]:
        """Yield the rank's share of the view: over all ranks each sample exactly once, crops from the centre."""
        return self._batches(
            BatchRequest(p, None) for p in eval_slices(len(self.view), self.batch_size, self.rank, self.world)
        )

    def shares(self, epoch: int) -> dict[str, float]:
        """Return the realised share of each dataset in an epoch, by name."""
        order = epoch_order(self._facts, self.seed, epoch, self.batch_size)
        realised = shares(order, self.view.samples.part, len(self.view.parts))
        out: dict[str, float] = {}
        for part, share in zip(self.view.parts, realised, strict=True):
            out[part.dataset.name] = out.get(part.dataset.name, 0.0) + share
        return out

    def _crops_of(self, step: int) -> NDArray[np.float64] | None:
        """Return (B, 3) draws in [0, 1): this rank's slice of the windows and angles of the global batch at `step`."""
        if not self._crops:
            return None
        where = random_unit(random_bits(draw_key(self.seed, step, "crop"), 2 * self.batch_size))
        turn = random_unit(random_bits(draw_key(self.seed, step, "turn"), self.batch_size))
        local = self.batch_size // self.world
        drawn = np.column_stack([where.reshape(self.batch_size, 2), turn])
        return drawn[self.rank * local : (self.rank + 1) * local]

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.view)

    @cached_property
    def _slots(self) -> Slots:
        local = -(-self.batch_size // self.world)
        (height, width), view = self.view.size, self.view
        shape = Shape(batch=local, height=height, width=width, channels=view.channels, masks=view.masks)
        return Slots(_HELD + 1 + _AHEAD * max(self.processes, 1), shape)

    @cached_property
    def _kept(self) -> Kept | None:
        """Memory for decoded images, if they fit and are the same in every epoch."""
        shape, samples = self._slots.shape, len(self.view)
        fits = not self._crops and Kept.bytes_for(samples, shape) <= self._keep_bytes
        return Kept(samples, shape) if fits else None

    def _batches(self, requests: Iterable[BatchRequest]) -> Iterator[RawBatch]:
        """Yield batches in order, with `_AHEAD` batches per loader process in progress."""
        in_progress: deque[_Started] = deque()
        try:
            for request in requests:
                in_progress.append(self._start(request))
                if len(in_progress) > _AHEAD * self.processes:
                    yield self._finish(in_progress.popleft())
            while in_progress:
                yield self._finish(in_progress.popleft())
        finally:
            for started in in_progress:
                self._abandon(started)

    def _start(self, request: BatchRequest) -> _Started:
        """Begin to read a batch in a loader process, if there is one and an image has to be decoded."""
        have = None if self._kept is None else self._kept.have[request.positions]
        slot = None
        if self.processes and not (have is not None and have.all()):
            slot = self._slots.take()
        if slot is None:
            return _Started(request, None, None, None)
        if self._workers is None:
            self._workers = start_workers(self.processes, self._reader, self._slots.buffers, self._kept)
        return _Started(request, slot, self._workers, self._workers.submit(SlotRequest(request, slot, have)))

    def _finish(self, started: _Started) -> RawBatch:
        """Wait for the batch, or read it now, and return it."""
        request = started.request
        if started.ticket is None or started.workers is None or started.slot is None:
            memory = self._slots.borrow(_HELD)
            have = None if self._kept is None else self._kept.have[request.positions]
            with _one_thread():
                read_batch(self._reader, request, split(memory, self._slots.shape), self._kept, have)
        else:
            try:
                started.workers.wait(started.ticket)
            except BaseException:
                self._abandon(started)
                raise
            memory = self._slots.lend(started.slot, _HELD)
        if self._kept is not None:
            self._kept.have[request.positions] = True
        return self._batch(request.positions, torch.from_numpy(memory))

    def _abandon(self, started: _Started) -> None:
        """Free the slot of a batch that is not needed, once its loader process has finished writing to it."""
        if started.slot is not None and started.workers is not None and started.ticket is not None:
            with contextlib.suppress(MedvqError):
                started.workers.wait(started.ticket)
            self._slots.give_back(started.slot)

    def _batch(self, positions: NDArray[np.int64], memory: torch.Tensor) -> RawBatch:
        n, shape = len(positions), self._slots.shape
        space = (shape.batch, shape.height, shape.width)
        image = memory[: shape.image_bytes].view(*space, shape.channels)[:n].permute(0, 3, 1, 2)  # (B, C, H, W)
        mask = memory[shape.image_bytes :].view(shape.batch, 1, *space[1:])[:n] if shape.masks else None
        label = torch.from_numpy(self.view.labels()[positions].astype(np.int64))
        return RawBatch(self.view, torch.from_numpy(positions), image, label, mask)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one torch thread: resizing an image takes 0.1 ms, too little to gain from several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
