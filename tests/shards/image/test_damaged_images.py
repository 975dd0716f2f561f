"""Damaged images: each is accepted or refused, never a crash, and damage that can be found is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import encode, pixels

from medvq.config.recipe import Recipe
from medvq.shards.image.bad import BadImage
from medvq.shards.image.decode import decode

RECIPE = Recipe()

GOOD = [encode(pixels(3), "JPEG"), encode(pixels(3)), encode(pixels(3), "BMP"), encode(pixels(3), "GIF"),
        encode(pixels(3), "WEBP"), encode(pixels(3), "TIFF"), encode(pixels(3), "JPEG", progressive=True)]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(GOOD), st.data())
def test_damage_is_an_answer_and_never_a_crash(good: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good) - 1))
    how = data.draw(st.sampled_from(["cut", "flip", "zero", "double"]))
    damaged = {
        "cut": good[:at],
        "flip": good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :],
        "zero": good[:at] + bytes(16) + good[at + 16 :],
        "double": good[:at] + good,
    }[how]
    try:
        found = decode(damaged, RECIPE)
    except BadImage as e:
        reason = str(e)
    else:
        assert found.pixels.dtype == np.uint8
        assert found.pixels.ndim in (2, 3)
        reason = "fine"
    assert reason


@pytest.mark.parametrize("good", GOOD[:2] + GOOD[6:], ids=["jpeg", "png", "progressive"])
def test_every_cut_of_a_jpeg_or_png_is_found(good: bytes) -> None:
    for n in range(len(good)):
        with pytest.raises(BadImage):
            decode(good[:n], RECIPE)


def test_every_flipped_bit_of_a_png_is_found() -> None:
    good = GOOD[1]
    for at in range(len(good)):
        with pytest.raises(BadImage):
            decode(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :], RECIPE)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_answered(data: bytes) -> None:
    for head in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM", b"\x93NUMPY", b"P6 "):
        try:
            decode(head + data, Recipe(max_pixels=10_000))
        except BadImage as e:
            reason = str(e)
        else:
            reason = "fine"
        assert reason


def test_a_tiff_whose_second_directory_is_damaged_is_an_answer() -> None:
    """Found by the test above: Pillow counts frames by reading on, and fails with a TypeError."""
    data = bytearray(encode(np.full((16, 20, 3), 99, np.uint8), "TIFF"))
    first = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[first : first + 2], "little")
    at = first + 2 + 12 * entries
    data[at : at + 4] = len(data).to_bytes(4, "little")
    with pytest.raises(BadImage, match="damaged TIFF"):
        decode(bytes(data) + (1).to_bytes(2, "little") + bytes(20), RECIPE)
