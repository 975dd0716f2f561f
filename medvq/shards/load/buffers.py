"""Memory shared by a process and its loader processes: batches in progress, and decoded images for the next epoch.

The memory is anonymous: it has no name in /dev/shm, a killed process leaves nothing behind, and loader processes get it
by fork.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvq.shards.image.arrays import Pixels


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a batch in memory."""

    batch: int
    height: int
    width: int
    channels: int
    masks: bool

    @property
    def image_bytes(self) -> int:
        """Number of bytes of the images of a batch."""
        return self.batch * self.height * self.width * self.channels

    @property
    def total_bytes(self) -> int:
        """Number of bytes of a batch with its masks."""
        return self.image_bytes + (self.batch * self.height * self.width if self.masks else 0)


@dataclass(frozen=True)
class Buffers:
    """Arrays that samples are read into."""

    images: Pixels
    """(B, H, W, C)."""
    masks: Pixels | None
    """(B, H, W); None if the view has no masks."""


def shared_bytes(size: int) -> NDArray[np.uint8]:
    """Return (size,) zeros that parent and children share after a fork; pages are allocated when first written."""
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]


def split(flat: NDArray[np.uint8], shape: Shape) -> Buffers:
    """Return `flat`, (shape.total_bytes,), as the arrays of one batch."""
    space = (shape.batch, shape.height, shape.width)
    images = flat[: shape.image_bytes].reshape(*space, shape.channels)
    masks = flat[shape.image_bytes : shape.total_bytes].reshape(space) if shape.masks else None
    return Buffers(images, masks)


class Slots:
    """A fixed number of batch buffers. A lent buffer is free again when its array is collected."""

    def __init__(self, count: int, shape: Shape) -> None:
        self.shape = shape
        self._flat = [shared_bytes(shape.total_bytes) for _ in range(count)]
        self.buffers = [split(flat, shape) for flat in self._flat]
        self._free = deque(range(count))
        self._lent: set[int] = set()

    def take(self) -> int | None:
        """Take a free slot; return None if there is none."""
        return self._free.popleft() if self._free else None

    def give_back(self, slot: int) -> None:
        """Make `slot` free again."""
        self._lent.discard(slot)
        self._free.append(slot)

    def lend(self, slot: int, most: int) -> NDArray[np.uint8]:
        """Return the bytes of `slot`, (total_bytes,), lent until the array is collected.

        If `most` slots are lent already, return a copy and free the slot at once.
        """
        if len(self._lent) >= most:
            out = self._flat[slot].copy()
            self.give_back(slot)
            return out
        self._lent.add(slot)
        lease = self._flat[slot][:]
        weakref.finalize(lease, self.give_back, slot).atexit = False
        return lease

    def borrow(self, most: int) -> NDArray[np.uint8]:
        """Return memory for a batch, (total_bytes,): a free slot, or new memory if `most` are lent already."""
        slot = self.take() if len(self._lent) < most else None
        return np.empty(self.shape.total_bytes, np.uint8) if slot is None else self.lend(slot, most)


class Kept:
    """Decoded images of a whole view; each is kept from the first time it is read."""

    def __init__(self, samples: int, shape: Shape) -> None:
        self._shape = Shape(
            batch=samples, height=shape.height, width=shape.width, channels=shape.channels, masks=shape.masks
        )
        self.buffers = split(shared_bytes(self._shape.total_bytes), self._shape)
        self.have = np.zeros(samples, np.bool_)
        """(samples,) whether an image is kept. Only the main process writes it, after the pixels are there."""

    @staticmethod
    def bytes_for(samples: int, shape: Shape) -> int:
        """Return the number of bytes that `samples` images take."""
        return samples * shape.total_bytes // shape.batch

    def copy_in(self, positions: NDArray[np.int64], read: Buffers) -> None:
        """Copy samples from the first places of `read` to `positions`."""
        n = len(positions)
        self.buffers.images[positions] = read.images[:n]
        if read.masks is not None and self.buffers.masks is not None:
            self.buffers.masks[positions] = read.masks[:n]

    def copy_out(self, positions: NDArray[np.int64], into: Buffers) -> None:
        """Copy the samples at `positions` to the first places of `into`."""
        n = len(positions)
        np.take(self.buffers.images, positions, axis=0, out=into.images[:n], mode="clip")
        if into.masks is not None and self.buffers.masks is not None:
            np.take(self.buffers.masks, positions, axis=0, out=into.masks[:n], mode="clip")
