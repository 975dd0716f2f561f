"""Decoding: the same pixels as Pillow's, or within 1 of 255."""

import io

import numpy as np
import pytest
from PIL import Image

from medvq.shards.load.decode import decode_image, decode_mask

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


def test_masks_are_one_channel():
    mask = np.where(RNG.random((9, 7)) < 0.5, 255, 0).astype(np.uint8)
    assert np.array_equal(decode_mask(encoded(mask, "PNG")), mask)
