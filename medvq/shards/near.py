"""Near-duplicates: images that look alike though their bytes differ, found by a perceptual hash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from medvq.shards.pixels import Pixels

SIDE, FINE = 16, 4
"""The hash compares SIDE x SIDE neighbouring patches, each the mean of FINE x FINE pixels."""
BITS = SIDE * SIDE
NEAR = 20
"""Bits by which near-duplicates differ at most. Scaled, brightened and encoded again, smears, MRI and lesions change by
9 to 12 (median); different smears differ by 74 or more, different lesions by 30."""
BANDS = 16
"""Only images that agree in one band of 16 bits are compared; 20 random bits spare four bands on average."""
CROWDED = 64
"""A band value that more images share says nothing about likeness (flat background) and is passed over."""


def looks(pixels: Pixels) -> str:
    """64 hex digits: where the image gets brighter from left to right, on a 16 x 16 grid."""
    means = pixels.reshape(-1).take(_grid(pixels.shape)).sum(axis=(1, 3), dtype=np.int32)
    # Ties of flat regions are set to 0; a step of noise is no edge.
    return np.packbits(means[:, 1:] > means[:, :-1] + FINE * FINE).tobytes().hex()


@lru_cache(maxsize=64)
def _grid(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Where the picked pixels of the green (or only) channel lie in the flat image."""
    height, width = shape[:2]
    rows = np.minimum((np.arange(SIDE * FINE) * height + height // 2) // (SIDE * FINE), height - 1)
    columns = np.minimum((np.arange((SIDE + 1) * FINE) * width + width // 2) // ((SIDE + 1) * FINE), width - 1)
    places = rows[:, None] * width + columns
    if len(shape) == 3:
        places = places * 3 + 1
    return places.reshape(SIDE, FINE, SIDE + 1, FINE)


def near_pairs(hashes: Sequence[str], apart: Sequence[str]) -> list[tuple[int, int, int]]:
    """(i, j, bits that differ) of pairs that look alike and are in different `apart` (splits), i < j, sorted."""
    if len(hashes) < 2:
        return []
    codes = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(hashes), BITS // 8)
    bands = np.ascontiguousarray(codes).view(">u2")
    found: dict[tuple[int, int], int] = {}
    for b in range(BANDS):
        buckets: dict[int, list[int]] = defaultdict(list)
        for i, value in enumerate(bands[:, b].tolist()):
            buckets[value].append(i)
        for rows in buckets.values():
            if 1 < len(rows) <= CROWDED:
                _compare(codes, rows, apart, found)
    return sorted((i, j, d) for (i, j), d in found.items())


def _compare(
    codes: npt.NDArray[np.uint8], rows: list[int], apart: Sequence[str], found: dict[tuple[int, int], int]
) -> None:
    for k, i in enumerate(rows[:-1]):
        others = rows[k + 1 :]
        distances = np.bitwise_count(codes[others] ^ codes[i]).sum(axis=1)
        for j, d in zip(others, distances.tolist(), strict=True):
            if d <= NEAR and apart[i] != apart[j]:
                found[i, j] = d
