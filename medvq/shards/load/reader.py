"""Read the samples of a view into given arrays: the one place where bytes become a batch.

The main process and the loader processes run this code, so that a batch has the same pixels whoever reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvq.errors import DataError
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.dataset.manifest import INSIDE
from medvq.shards.image.arrays import Pixels
from medvq.shards.load.buffers import Buffers
from medvq.shards.load.decode import decode_image, decode_mask, is_npy, npy_layout
from medvq.shards.load.geometry import cover, crop_window, resize, resize_nearest, rotated_window
from medvq.shards.load.view import View, ViewPart

KEEP = 255
"""The value of a mask for samples without one, and outside a rotated image: keep the pixel."""


@dataclass(frozen=True)
class Cut:
    """How a window is cut out of an image."""

    at: tuple[float, float] = (0.5, 0.5)
    """Position in [0, 1), down and across."""
    degrees: float = 0.0
    """Angle by which the image is rotated first, counter-clockwise."""

    @classmethod
    def of(cls, drawn: NDArray[np.float64], most: float) -> Cut:
        """Return the cut for three draws in [0, 1), with a rotation by at most `most` degrees either way."""
        down, across, turn = map(float, drawn)
        return cls((down, across), (2 * turn - 1) * most)


CENTRE = Cut()


class Reader:
    """Reads the samples of one view."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._part, self._row = view.rows()
        self._plain = len(view) - view.samples.copies
        self._has_mask = view.has_mask() if view.masks or view.samples.copies else None
        self._raw = len(view.parts) == 1 and self._has_mask is None and _all_raw(view.parts[0].dataset, view.size)
        for part in view.parts:
            # Columns are loaded before any fork, so that the loader processes share their memory.
            members = ("image", "mask") if self._has_mask is not None else ("image",)
            for name in ("shard", *(f"{m}_{c}" for m in members for c in ("offset", "length", "crc32"))):
                part.dataset.column(name)

    def read(self, positions: Sequence[int], crops: NDArray[np.float64] | None, into: Buffers) -> None:
        """Read the samples at `positions` into the first places of `into`.

        Args:
            positions: B positions in the view.
            crops: (B, 3) in [0, 1): where windows are cut, down and across, and how far the image is rotated. None cuts
                the centre and does not rotate.
            into: arrays with room for at least B samples.

        Raises:
            DataError: a sample is damaged; the message names its shard and key.
        """
        if self._raw and self._read_raw(positions, into):
            return
        for i, position in enumerate(positions):
            part, row = self.view.parts[self._part[position]], int(self._row[position])
            cut = CENTRE if crops is None else Cut.of(crops[i], part.turn)
            try:
                self._read_one(part, row, position, cut, into, i)
            except (ValueError, OSError, SyntaxError) as e:
                raise DataError(f"the sample cannot be decoded: {e}", where=part.dataset.where(row)) from e

    def _read_raw(self, positions: Sequence[int], into: Buffers) -> bool:
        """Copy a batch of raw images of the view's size at once; return False if the files are something else."""
        files = self.view.parts[0].dataset.read_many(self._row[np.asarray(positions)])
        first = files[0]
        if not is_npy(first):
            return False
        try:
            start, shape = npy_layout(first)
        except ValueError:
            return False
        if shape != into.images.shape[1:] or any(len(f) != len(first) or f[:start] != first[:start] for f in files):
            return False
        pixels = np.frombuffer(b"".join(files), np.uint8).reshape(len(files), -1)[:, start:]
        into.images[: len(files)] = pixels.reshape(len(files), *shape)
        return True

    def _read_one(self, part: ViewPart, row: int, position: int, cut: Cut, into: Buffers, place: int) -> None:
        size = self.view.size
        image: Pixels = decode_image(part.dataset.read(row), self.view.channels)
        mask = self._mask(part, row, position, image.shape[:2])
        if position >= self._plain and mask is not None:
            image = np.where(mask[:, :, None] >= INSIDE, image, np.uint8(0))
        if part.fit == "crop":
            whole = cover(image.shape[:2], size)
            image, mask = resize(image, whole), None if mask is None else resize_nearest(mask, whole)
            window = crop_window(whole, size, cut.at)
            if cut.degrees:
                image = rotated_window(image, window, cut.degrees, part.corner, "bilinear")
                if mask is not None:
                    mask = rotated_window(mask[:, :, None], window, cut.degrees, (KEEP,), "nearest")[:, :, 0]
            else:
                image, mask = image[window], None if mask is None else mask[window]
        elif image.shape[:2] != size:
            image = resize(image, size)
        into.images[place] = image
        if into.masks is not None:
            into.masks[place] = KEEP if mask is None else resize_nearest(mask, size)

    def _mask(self, part: ViewPart, row: int, position: int, shape: tuple[int, int]) -> Pixels | None:
        """Return the sample's mask at the size of its image; None if it has none or the view needs none."""
        if self._has_mask is None or not self._has_mask[position]:
            return None
        return resize_nearest(decode_mask(part.dataset.read(row, "mask")), shape)


def _all_raw(dataset: Dataset, size: tuple[int, int]) -> bool:
    """Return whether all images of a dataset are raw arrays of `size`."""
    image = dataset.manifest.image
    return (image.height, image.width) == size and bool(np.all(dataset.columns.codes("ext", ("npy",)) == 0))
