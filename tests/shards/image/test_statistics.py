"""Pixel sums are exact, and so are mean and standard deviation made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medvq.shards.image.statistics import Sums, mean_and_std, sums_of


@pytest.mark.parametrize("shape", [(5, 7), (1, 1, 3), (255, 3), (256, 3, 3), (257, 2, 3), (1000, 31, 3), (31, 1000)])
@pytest.mark.parametrize("bright", [False, True])
def test_sums_are_exact(shape: tuple[int, ...], bright: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if bright:
        pixels |= 0xFC
    whole = pixels.reshape(-1, shape[2] if len(shape) == 3 else 1).astype(object)
    found = sums_of(pixels)
    assert found == Sums(shape[0] * shape[1], whole.sum(0).tolist(), (whole * whole).sum(0).tolist())


def test_the_largest_sums_do_not_overflow() -> None:
    assert sums_of(np.full((70_000, 1), 255, np.uint8)) == Sums(70_000, [70_000 * 255], [70_000 * 255**2])


def test_every_image_counts_the_same_and_grey_for_each_channel() -> None:
    images = [np.full((2, 2), 51, np.uint8), np.full((20, 3, 3), 102, np.uint8), np.full((5, 1, 3), 0, np.uint8)]
    mean, std = mean_and_std([sums_of(image) for image in images], 3)
    assert mean == [pytest.approx(0.2, abs=1e-15)] * 3
    assert std == [pytest.approx(math.sqrt((0.04 + 0.16) / 3 - 0.04), abs=1e-15)] * 3


def test_the_order_of_images_changes_no_bit() -> None:
    rng = np.random.default_rng(1)
    images = [sums_of(rng.integers(0, 256, (*rng.integers(1, 40, 2), 3), dtype=np.uint8)) for _ in range(200)]
    found = mean_and_std(images, 3)
    assert mean_and_std(images[::-1], 3) == found
    assert mean_and_std(sorted(images), 3) == found


def test_equal_pixels_have_no_spread() -> None:
    images = [np.full((n, n + 1), 77, np.uint8) for n in range(1, 300)]
    mean, std = mean_and_std([sums_of(image) for image in images], 1)
    assert mean == [77 / 255]
    assert std[0] < 1e-15
