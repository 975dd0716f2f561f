"""Find near-duplicates by a perceptual hash: images that look alike although their bytes differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from medvq.shards.image.arrays import Pixels

SIDE, FINE = 16, 4
"""The hash compares SIDE x SIDE neighbouring patches, each the mean of FINE x FINE pixels."""
BITS = SIDE * SIDE
NEAR = 20
"""Largest number of bits by which near-duplicates differ. Scaled, brightened and encoded again, smears, MRI and lesions
change by 9 to 12 bits (median); different smears differ by 74 or more, different lesions by 30."""
LARGE = 192
"""Images with at least so many pixels a side are reduced to the means of 8 x 8 blocks first."""
MOST = 200_000
"""Largest number of images that are compared; more would take minutes."""
BANDS = 16
"""Only images that agree in a band of 16 bits are compared; 20 random bits leave four bands unchanged on average."""
CROWDED = 64
"""A band value that more images share is ignored, as it comes from flat background."""


def looks(pixels: Pixels) -> str:
    """Return the perceptual hash of `pixels`, (H, W) or (H, W, 3), as 64 hex digits.

    Each of the 256 bits says whether the image gets brighter from one patch of a 16 x 17 grid to its right neighbour.
    Of a colour image the green channel is used.
    """
    if min(pixels.shape[:2]) >= LARGE:
        pixels = _block_means(pixels)
    picked = pixels.reshape(-1).take(_grid(pixels.shape)).astype(np.float32)  # (64, 68)
    # Sums of up to 16 bytes are exact in float32, in any order.
    means = _DOWN @ picked @ _ACROSS  # (16, 17)
    # In flat regions every bit is 0: a step of noise is no edge.
    brighter = means[:, 1:] > means[:, :-1] + FINE * FINE
    return np.packbits(brighter).tobytes().hex()


def _block_means(pixels: Pixels) -> Pixels:
    """Return the rounded means of 8 x 8 blocks of the green (or only) channel, (H/8, W/8) rounded up.

    Blocks at the right and bottom edge repeat the last column and row.
    """
    from PIL import Image

    green = pixels if pixels.ndim == 2 else pixels[..., 1]
    whole = np.pad(green, [(0, -side % 8) for side in green.shape], mode="edge")
    return np.asarray(Image.fromarray(whole).reduce(8))


_DOWN = np.kron(np.eye(SIDE, dtype=np.float32), np.ones((1, FINE), np.float32))
_ACROSS = np.kron(np.eye(SIDE + 1, dtype=np.float32), np.ones((FINE, 1), np.float32))


@lru_cache(maxsize=64)
def _grid(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Return the places of the sampled pixels of the green (or only) channel in the flat image."""
    height, width = shape[:2]
    rows = np.minimum((np.arange(SIDE * FINE) * height + height // 2) // (SIDE * FINE), height - 1)
    columns = np.minimum((np.arange((SIDE + 1) * FINE) * width + width // 2) // ((SIDE + 1) * FINE), width - 1)
    places = rows[:, None] * width + columns
    if len(shape) == 3:
        places = places * 3 + 1
    return places


def near_pairs(hashes: Sequence[str], apart: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return sorted (i, j, differing bits), i < j, of pairs that look alike and have different values in `apart`."""
    if len(hashes) > MOST or len(set(apart)) < 2:
        return []
    codes = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(hashes), BITS // 8)
    bands, splits = np.ascontiguousarray(codes).view(">u2"), np.unique(np.asarray(apart), return_inverse=True)[1]
    found: dict[tuple[int, int], int] = {}
    for b in range(BANDS):
        for one, other in _candidates(bands[:, b]):
            keep = splits[one] != splits[other]
            one, other = np.minimum(one, other)[keep], np.maximum(one, other)[keep]
            distances = np.bitwise_count(codes[one] ^ codes[other]).sum(axis=1)
            close = distances <= NEAR
            pairs = zip(one[close].tolist(), other[close].tolist(), strict=True)
            found.update(zip(pairs, distances[close].tolist(), strict=True))
    return sorted((i, j, d) for (i, j), d in found.items())


def _candidates(values: npt.NDArray[np.uint16]) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yield pairs of places with the same value, in large batches; values that too many share are left out."""
    order = np.argsort(values, kind="stable")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    order = order[(counts <= CROWDED)[place[order]]]
    ordered = values[order]
    for step in range(1, CROWDED):
        same = ordered[step:] == ordered[:-step]
        if not same.any():
            return
        yield order[:-step][same], order[step:][same]
