"""Exact pixel sums of an image, and the mean and standard deviation of many images.

Sums of 8-bit values and of their squares are whole numbers, and the sums of many images are added as whole numbers too.
The result does not depend on the order of the images or on the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from medvq.shards.image.arrays import Pixels

_ROWS = 256
"""Rows added at once: 256 · 255 fits in 16 bits."""
_POINT = 128
"""Binary digits behind the point when moments of images of different size are added."""


class Sums(NamedTuple):
    """Sums over the pixels of one image, per channel, of values 0..255."""

    pixels: int = 0
    total: Sequence[int] = ()
    squares: Sequence[int] = ()


def sums_of(pixels: Pixels) -> Sums:
    """Return the exact sums of `pixels`, (H, W) or (H, W, 3)."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else 3
    rows = pixels.reshape(height, width * channels)
    columns = np.zeros((2, width * channels), np.int64)
    work = np.empty((min(_ROWS, height), width * channels), np.uint16)
    # BLAS on float32 would be no faster, and its threads would slow down forked processes.
    for top in range(0, height, _ROWS):
        block = rows[top : top + _ROWS]
        wide = work[: len(block)]
        wide[...] = block
        columns[0] += np.add.reduce(wide, axis=0, dtype=np.uint16)
        np.square(wide, out=wide)
        columns[1] += np.add.reduce(wide, axis=0, dtype=np.uint32)
    total, squares = columns.reshape(2, width, channels).sum(axis=1).tolist()
    return Sums(height * width, total, squares)


def mean_and_std(images: Sequence[Sums], channels: int) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, of pixels in 0..1.

    The mean is the mean over images of E[x], the standard deviation sqrt(mean over images of E[x²] - mean²): every
    image counts the same, whatever its size.

    Args:
        images: the sums of at least one image.
        channels: 1 or 3; a grey image counts for each of three channels.
    """
    means, spreads = [], []
    for channel in range(channels):
        first = _mean_over_images(images, [s.total[channel % len(s.total)] for s in images]) / 255
        second = _mean_over_images(images, [s.squares[channel % len(s.squares)] for s in images]) / 255**2
        means.append(float(first))
        spreads.append(math.sqrt(max(second - first * first, Fraction())))
    return means, spreads


def _mean_over_images(images: Sequence[Sums], values: Sequence[int]) -> Fraction:
    """Return the mean over images of value / pixels, each quotient cut after `_POINT` binary digits."""
    added = sum((value << _POINT) // image.pixels for image, value in zip(images, values, strict=True))
    return Fraction(added, len(images) << _POINT)
