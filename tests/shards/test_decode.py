"""Decoding and resizing: the same pixels as Pillow's, or within 1 of 255."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medvq.shards.decode import cover, crop_window, decode_image, decode_mask, resize, resize_nearest

RNG = np.random.default_rng(0)
SMOOTH = np.asarray(Image.fromarray(RNG.integers(0, 256, (12, 15, 3), dtype=np.uint8)).resize((90, 70)))


def encoded(pixels, kind, **options):
    out = io.BytesIO()
    if kind == "npy":
        np.save(out, pixels)
    else:
        Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True, "quality": 40}), ("JPEG", {"subsampling": 0})],
)
def test_pixels_are_pillows(kind, options, grey, channels):
    data = encoded(SMOOTH[:, :, 0].copy() if grey else SMOOTH, kind, **options)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("L" if channels == 1 else "RGB")).astype(int)
    found = decode_image(data, channels)
    assert found.shape == (70, 90, channels)
    assert np.abs(found.astype(int) - wanted.reshape(found.shape)).max() <= 1


def test_cmyk_and_palette():
    image = Image.fromarray(SMOOTH)
    for converted, kind in ((image.convert("CMYK"), "JPEG"), (image.convert("P"), "PNG"), (image.convert("LA"), "PNG")):
        out = io.BytesIO()
        converted.save(out, kind)
        wanted = np.asarray(Image.open(io.BytesIO(out.getvalue())).convert("RGB")).astype(int)
        assert np.abs(decode_image(out.getvalue(), 3).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (28, 20, 3)])
def test_npy(shape):
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(
        decode_image(encoded(pixels, "npy"), shape[2] if len(shape) == 3 else 1).squeeze(), pixels.squeeze()
    )


def test_what_is_no_image_is_refused():
    bad_npy = io.BytesIO()
    np.save(bad_npy, np.zeros((3, 3), np.float32))
    for data in (b"", b"<html>", encoded(SMOOTH, "JPEG")[:200], encoded(SMOOTH, "PNG")[:80], bad_npy.getvalue()):
        with pytest.raises((ValueError, OSError, SyntaxError)):
            decode_image(data, 3)


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


def test_masks_are_one_channel():
    mask = np.where(RNG.random((9, 7)) < 0.5, 255, 0).astype(np.uint8)
    assert np.array_equal(decode_mask(encoded(mask, "PNG")), mask)


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
