"""Resizing, windows and rotation: the same pixels as Pillow's or torchvision's, or within 1 of 255."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medvq.shards.load.geometry import cover, crop_window, resize, resize_nearest, rotated_window

RNG = np.random.default_rng(0)
SMOOTH = np.asarray(Image.fromarray(RNG.integers(0, 256, (12, 15, 3), dtype=np.uint8)).resize((90, 70)))


@pytest.mark.parametrize("size", [(28, 28), (64, 33), (70, 90), (100, 180)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_is_pillows_antialiased_bilinear(size, channels):
    image = SMOOTH[:, :, :channels]
    mode = image if channels == 3 else image[:, :, 0]
    wanted = np.asarray(Image.fromarray(mode.copy()).resize(size[::-1], Image.BILINEAR)).reshape(*size, channels)
    difference = np.abs(resize(image, size).astype(int) - wanted)
    assert difference.max() <= 1
    assert difference.mean() < 0.1


@settings(deadline=None)
@given(old=st.tuples(st.integers(1, 40), st.integers(1, 40)), new=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_nearest_is_pillows(old, new):
    mask = np.random.default_rng(0).integers(0, 256, old, dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(mask).resize(new[::-1], Image.NEAREST))
    # A centre exactly between two pixels belongs to the later one; there Pillow's floats go either way.
    clear = [(2 * np.arange(n) + 1) * o % (2 * n) != 0 for n, o in zip(new, old, strict=True)]
    clear = [c | (o == n) for c, o, n in zip(clear, old, new, strict=True)]
    assert np.array_equal(resize_nearest(mask, new)[np.ix_(*clear)], wanted[np.ix_(*clear)])


@given(
    shape=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    at=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)
def test_a_window_always_fits(shape, size, at):
    whole = cover(shape, size)
    assert whole == shape or whole[0] == size[0] or whole[1] == size[1]
    rows, columns = crop_window(whole, size, at)
    assert 0 <= rows.start <= rows.stop <= whole[0]
    assert 0 <= columns.start <= columns.stop <= whole[1]
    assert (rows.stop - rows.start, columns.stop - columns.start) == size


def test_a_window_can_lie_anywhere():
    tops = {crop_window((9, 5), (6, 5), (a, 0.3))[0].start for a in np.arange(0, 1, 0.05)}
    assert tops == {0, 1, 2, 3}


@pytest.mark.parametrize("degrees", [0.0, 17.0, -90.0, 135.5, 180.0])
@pytest.mark.parametrize("at", [(0.5, 0.5), (0.0, 0.0), (0.999, 0.2)])
@pytest.mark.parametrize("shape", [(60, 60, 3), (50, 71, 1)])
def test_a_rotated_window_is_the_rotated_image_cut(degrees, at, shape, torchvision):
    """Rotating only what the window shows gives what rotating the whole image and cutting it gives."""
    import torch

    rng = np.random.default_rng(0)
    smooth = rng.uniform(0, 255, (7, 7, shape[2]))
    image = np.clip(resize(smooth.astype(np.uint8), shape[:2]), 1, 255)
    fill = (9,) * shape[2]
    x = torch.from_numpy(image).permute(2, 0, 1).float()
    whole = torchvision.rotate(
        x, degrees, interpolation=torchvision.InterpolationMode.BILINEAR, fill=list(map(float, fill))
    )
    window = crop_window(shape[:2], (24, 20), at)
    want = whole.permute(1, 2, 0).numpy()[window]
    got = rotated_window(image, window, degrees, fill, "bilinear")
    assert got.shape == (24, 20, shape[2])
    # Half of one is the rounding to uint8. At the image's very edge torchvision blends with the fill twice.
    assert np.mean(np.abs(got.astype(float) - want) > 0.51) < 0.1


def test_a_window_outside_of_a_turned_image_is_filled():
    image = np.full((100, 100, 3), 200, np.uint8)
    got = rotated_window(image, crop_window((100, 100), (10, 10), (0.0, 0.0)), 45.0, (1, 2, 3), "bilinear")
    assert (got == np.array([1, 2, 3])).all()
    inside = rotated_window(image, crop_window((100, 100), (10, 10), (0.5, 0.5)), 45.0, (1, 2, 3), "bilinear")
    assert (inside == 200).all()


def test_values_of_a_turned_mask_are_its_own():
    mask = (np.indices((40, 40)).sum(0) % 7 < 3).astype(np.uint8)[:, :, None] * 255
    got = rotated_window(mask, crop_window((40, 40), (16, 16), (0.5, 0.5)), 33.0, (255,), "nearest")
    assert set(np.unique(got)) == {0, 255}
