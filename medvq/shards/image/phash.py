"""Near-duplicates: images that look alike though their bytes differ, found by a perceptual hash."""

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
"""Bits by which near-duplicates differ at most. Scaled, brightened and encoded again, smears, MRI and lesions change by
9 to 12 (median); different smears differ by 74 or more, different lesions by 30."""
LARGE = 192
"""Pixels a side from which an image is reduced first; a JPEG of that size may have been read at an eighth only."""
MOST = 200_000
"""Images among which near-duplicates are looked for; with more it would take minutes."""
BANDS = 16
"""Only images that agree in one band of 16 bits are compared; 20 random bits spare four bands on average."""
CROWDED = 64
"""A band value that more images share says nothing about likeness (flat background) and is passed over."""


def looks(pixels: Pixels, *, eighth: bool = False) -> str:
    """64 hex digits: where the image gets brighter from left to right, on a 16 x 16 grid.

    Larger images are first reduced to the means of 8 x 8 blocks, unless they are that already (`eighth`).
    """
    if not eighth and min(pixels.shape[:2]) >= LARGE:
        pixels = _eighth(pixels)
    return looks_of_all(pixels[None])[0]


def looks_of_all(images: Pixels) -> list[str]:
    """The hash of each of (N, H, W) or (N, H, W, 3), which are reduced already if they were large."""
    picked = images.reshape(len(images), -1).take(_grid(images.shape[1:]), axis=1).astype(np.float32)
    # Sums of up to 16 bytes are exact in float32, in whatever order they are taken.
    means = _DOWN @ picked @ _ACROSS  # (N, 64, 68) -> (N, 16, 17)
    # Ties of flat regions are set to 0; a step of noise is no edge.
    brighter = means[:, :, 1:] > means[:, :, :-1] + FINE * FINE
    return [bits.tobytes().hex() for bits in np.packbits(brighter.reshape(len(images), -1), axis=1)]


def _eighth(pixels: Pixels) -> Pixels:
    """The means of 8 x 8 blocks of the green (or only) channel, as a JPEG decoder gives them."""
    green = pixels if pixels.ndim == 2 else pixels[..., 1]
    height, width = (-(-side // 8) * 8 for side in green.shape)
    padded = np.pad(green, ((0, height - green.shape[0]), (0, width - green.shape[1])), mode="edge")
    sums = padded.reshape(height // 8, 8, width).sum(axis=1, dtype=np.uint16)
    means: Pixels = ((sums.reshape(height // 8, width // 8, 8).sum(axis=2) + 32) // 64).astype(np.uint8)
    return means


_DOWN = np.kron(np.eye(SIDE, dtype=np.float32), np.ones((1, FINE), np.float32))
_ACROSS = np.kron(np.eye(SIDE + 1, dtype=np.float32), np.ones((FINE, 1), np.float32))


@lru_cache(maxsize=64)
def _grid(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Where the picked pixels of the green (or only) channel lie in the flat image."""
    height, width = shape[:2]
    rows = np.minimum((np.arange(SIDE * FINE) * height + height // 2) // (SIDE * FINE), height - 1)
    columns = np.minimum((np.arange((SIDE + 1) * FINE) * width + width // 2) // ((SIDE + 1) * FINE), width - 1)
    places = rows[:, None] * width + columns
    if len(shape) == 3:
        places = places * 3 + 1
    return places


def near_pairs(hashes: Sequence[str], apart: Sequence[str]) -> list[tuple[int, int, int]]:
    """(i, j, bits that differ) of pairs that look alike and are in different `apart` (splits), i < j, sorted."""
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
    """Pairs of places with the same value, in a few large batches; values that too many share give none."""
    order = np.argsort(values, kind="stable")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    order = order[(counts <= CROWDED)[place[order]]]
    ordered = values[order]
    for step in range(1, CROWDED):
        same = ordered[step:] == ordered[:-step]
        if not same.any():
            return
        yield order[:-step][same], order[step:][same]
