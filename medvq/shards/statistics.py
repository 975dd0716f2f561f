"""Exact pixel sums of an image, and the mean and standard deviation of many."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medvq.shards.pixels import Pixels

_ROWS = 256
"""Rows summed at once: 256·255² stays below 2²⁴, so that float32 sums are exact whole numbers."""


@dataclass
class Sums:
    """Sums over the pixels of one image, per channel, of values 0..255."""

    pixels: int
    total: list[int]
    squares: list[int]


def sums_of(pixels: Pixels) -> Sums:
    """The exact sums of `pixels` (H, W) or (H, W, 3)."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else 3
    rows = pixels.reshape(height, width * channels)
    total = np.zeros((2, width * channels), np.int64)
    ones = np.ones(_ROWS, np.float32)
    for top in range(0, height, _ROWS):
        block = rows[top : top + _ROWS].astype(np.float32)
        weights = ones[: len(block)]
        total[0] += (weights @ block).astype(np.int64)
        np.square(block, out=block)
        total[1] += (weights @ block).astype(np.int64)
    summed = total.reshape(2, width, channels).sum(axis=1)
    return Sums(height * width, summed[0].tolist(), summed[1].tolist())


def mean_and_std(sums: Iterable[Sums], channels: int) -> tuple[list[float], list[float]]:
    """Per channel, in 0..1: the mean over images of E[x], and sqrt(mean of E[x²] − mean²) (SPEC §1, pooled)."""
    firsts: list[list[float]] = [[] for _ in range(channels)]
    seconds: list[list[float]] = [[] for _ in range(channels)]
    for s in sums:
        for c in range(channels):
            k = c if len(s.total) > 1 else 0
            firsts[c].append(s.total[k] / (s.pixels * 255))
            seconds[c].append(s.squares[k] / (s.pixels * 255 * 255))
    mean = [math.fsum(v) / len(v) for v in firsts]
    std = [math.sqrt(max(0.0, math.fsum(v) / len(v) - m * m)) for v, m in zip(seconds, mean, strict=True)]
    return [round(m, 9) for m in mean], [round(s, 9) for s in std]
