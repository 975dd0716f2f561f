"""Check a JPEG whose bytes pass through without making all of its pixels.

A strict decode at an eighth of the size reads every coefficient, and so finds what a full one finds, in less than half
of the time; its pixels are the means of 8 x 8 blocks.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medvq.shards.image.arrays import Pixels, check_size
from medvq.shards.image.decode import orientation, strict_jpeg
from medvq.shards.image.phash import LARGE, looks_of_all
from medvq.shards.image.sniff import sniff
from medvq.shards.image.statistics import Sums, sums_of_all
from medvq.shards.image.strip import Plain, plain_jpeg

if TYPE_CHECKING:
    from medvq.config.recipe import Recipe


class Glance(NamedTuple):
    """What is stored of such a JPEG, and what an eighth of it shows."""

    plain: Plain
    pixels: Pixels
    """(H/8, W/8) or (H/8, W/8, 3), rounded up."""


def glance(data: bytes, recipe: Recipe) -> Glance | None:
    """`data` checked; None where it is no JPEG, or the recipe changes its pixels, or it is small.

    Raises:
        BadImage: as `decode`.
    """
    if recipe.store not in ("auto", "jpeg") or sniff(data[:64]) != "jpeg":
        return None
    plain = plain_jpeg(data)
    check_size(plain.width, plain.height, recipe)
    size = (plain.height, plain.width)
    if (
        not plain.simple
        or min(size) < LARGE
        or recipe.crop not in (None, size)
        or recipe.size not in (None, size)
        or (recipe.channels == 1 and plain.components == 3)
        or orientation(plain.exif) != 1
    ):
        return None
    return Glance(plain, strict_jpeg(plain, eighth=True))


class Eighths:
    """Reduced images wait here to be described together: alone they are smaller than what a call of numpy costs."""

    ROOM = 4_000_000
    """Bytes that wait at most, beside the last image."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, ...], list[tuple[int, Pixels]]] = defaultdict(list)
        self._bytes = 0
        self._found: dict[int, tuple[Sums, str]] = {}

    def add(self, number: int, pixels: Pixels) -> None:
        """Take image `number`."""
        self._waiting[pixels.shape].append((number, pixels))
        self._bytes += pixels.nbytes
        if self._bytes > self.ROOM:
            self._describe()

    def described(self) -> dict[int, tuple[Sums, str]]:
        """The sums and the perceptual hash of each image by its number."""
        self._describe()
        return self._found

    def _describe(self) -> None:
        for images in self._waiting.values():
            together = np.stack([pixels for _, pixels in images])
            both = zip(sums_of_all(together), looks_of_all(together), strict=True)
            self._found.update(zip((number for number, _ in images), both, strict=True))
        self._waiting.clear()
        self._bytes = 0
