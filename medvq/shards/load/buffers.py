"""Memory that a process and its loader processes share: batches under way, and decoded images kept for the next epoch.

All of it is anonymous (no names in /dev/shm, nothing left behind by a kill) and reaches the loader processes by fork.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvq.shards.load.decode import Pixels


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a batch looks like in memory."""

    batch: int
    height: int
    width: int
    channels: int
    masks: bool

    @property
    def image_bytes(self) -> int:
        """Bytes of all images of a batch."""
        return self.batch * self.height * self.width * self.channels

    @property
    def total_bytes(self) -> int:
        """Bytes of a batch, masks and all."""
        return self.image_bytes + (self.batch * self.height * self.width if self.masks else 0)


@dataclass(frozen=True)
class Buffers:
    """Arrays that samples are read into."""

    images: Pixels
    """(B, H, W, C)."""
    masks: Pixels | None
    """(B, H, W), or None where the view has no masks."""


def shared_bytes(size: int) -> NDArray[np.uint8]:
    """(size,) zeros that stay the same memory after a fork; pages are taken when first written."""
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]


def split(flat: NDArray[np.uint8], shape: Shape) -> Buffers:
    """The arrays of one batch in `flat` (shape.total_bytes,)."""
    space = (shape.batch, shape.height, shape.width)
    images = flat[: shape.image_bytes].reshape(*space, shape.channels)
    masks = flat[shape.image_bytes : shape.total_bytes].reshape(space) if shape.masks else None
    return Buffers(images, masks)


class Slots:
    """A fixed number of batch buffers. One that is lent comes back by itself when nobody holds it any more."""

    def __init__(self, count: int, shape: Shape) -> None:
        self.shape = shape
        self._flat = [shared_bytes(shape.total_bytes) for _ in range(count)]
        self.buffers = [split(flat, shape) for flat in self._flat]
        self._free = deque(range(count))
        self._lent: set[int] = set()

    def take(self) -> int | None:
        """A free slot, or None."""
        return self._free.popleft() if self._free else None

    def give_back(self, slot: int) -> None:
        """Make `slot` free again."""
        self._lent.discard(slot)
        self._free.append(slot)

    def lend(self, slot: int, most: int) -> NDArray[np.uint8]:
        """(total_bytes,) the bytes of `slot`: itself, free again when the array dies, or a copy if `most` are lent."""
        if len(self._lent) >= most:
            out = self._flat[slot].copy()
            self.give_back(slot)
            return out
        self._lent.add(slot)
        lease = self._flat[slot][:]
        weakref.finalize(lease, self.give_back, slot).atexit = False
        return lease

    def borrow(self, most: int) -> NDArray[np.uint8]:
        """(total_bytes,) memory for a batch: a slot that comes back by itself, or new where `most` are lent already."""
        slot = self.take() if len(self._lent) < most else None
        return np.empty(self.shape.total_bytes, np.uint8) if slot is None else self.lend(slot, most)


class Kept:
    """Decoded images of a whole view, each kept from the first time it is read."""

    def __init__(self, samples: int, shape: Shape) -> None:
        self._shape = Shape(
            batch=samples, height=shape.height, width=shape.width, channels=shape.channels, masks=shape.masks
        )
        self.buffers = split(shared_bytes(self._shape.total_bytes), self._shape)
        self.have = np.zeros(samples, np.bool_)
        """(samples,) which are there; only the main process writes it, after it was told that the pixels are."""

    @staticmethod
    def bytes_for(samples: int, shape: Shape) -> int:
        """What keeping `samples` images would take."""
        return samples * shape.total_bytes // shape.batch

    def copy_in(self, positions: NDArray[np.int64], read: Buffers) -> None:
        """Keep samples that are in the first places of `read`."""
        n = len(positions)
        self.buffers.images[positions] = read.images[:n]
        if read.masks is not None and self.buffers.masks is not None:
            self.buffers.masks[positions] = read.masks[:n]

    def copy_out(self, positions: NDArray[np.int64], into: Buffers) -> None:
        """Copy kept samples to the first places of `into`."""
        n = len(positions)
        np.take(self.buffers.images, positions, axis=0, out=into.images[:n], mode="clip")
        if into.masks is not None and self.buffers.masks is not None:
            np.take(self.buffers.masks, positions, axis=0, out=into.masks[:n], mode="clip")
