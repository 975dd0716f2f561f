"""Check a JPEG whose bytes pass through without making all of its pixels.

A strict decode at an eighth of the size reads every coefficient, and so finds what a full one finds, in less than half
of the time; its pixels are the means of 8 x 8 blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from medvq.shards.arrays import Pixels, check_size
from medvq.shards.near import LARGE
from medvq.shards.pixels import orientation, strict_jpeg
from medvq.shards.sniff import sniff
from medvq.shards.strip import plain_jpeg

if TYPE_CHECKING:
    from medvq.config.recipe import Recipe


class Glance(NamedTuple):
    """What is stored of such a JPEG, and what an eighth of it shows."""

    content: bytes
    pixels: Pixels
    """(H/8, W/8) or (H/8, W/8, 3), rounded up."""
    width: int
    height: int


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
    return Glance(plain.data, strict_jpeg(plain, eighth=True), plain.width, plain.height)
