"""Masks: their values, and their orientation relative to their images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import class_folders, encode, member, picture, pixels, put, rows_of

from medvq.config.recipe import Recipe
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.image.bad import BadImage
from medvq.shards.image.decode import decode_mask
from medvq.shards.image.fit import turned
from medvq.shards.pack.pack import pack

RECIPE = Recipe()
RGB = pixels(1)


def mask_of(data: bytes) -> list[int]:
    return np.unique(decode_mask(data, RECIPE).pixels).tolist()


def test_mask_values_are_kept() -> None:
    labels = np.tile(np.array([0, 1, 7, 255], np.uint8), (4, 5))
    assert mask_of(encode(labels)) == [0, 1, 7, 255]
    palette = Image.fromarray(labels % 5, "P")
    palette.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    assert mask_of(encode(palette)) == [0, 1, 2]
    assert mask_of(encode(Image.fromarray(labels > 3))) == [0, 255]
    assert mask_of(encode(np.dstack([labels] * 3))) == [0, 1, 7, 255]
    assert mask_of(encode(labels.astype(np.uint16))) == [0, 1, 7, 255]
    with pytest.raises(BadImage, match="above 255"):
        decode_mask(encode(labels.astype(np.uint16) * 300), RECIPE)


def test_mask_values_are_reported_and_mapped(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for i in range(4):
        picture(root / "data" / "ab"[i % 2] / f"{i}.png", i)
        put(root / "mask" / "ab"[i % 2] / f"{i}.png", encode(np.full((16, 20), [0, 128, 255, 3][i], np.uint8)))
    pack(root, tmp_path / "out", processes=1)
    manifest = read_manifest(tmp_path / "out")
    assert manifest.mask_values == {"0": 1, "128": 1, "255": 1, "3": 1}
    assert any("other values than 0 and 255: 3, 128; pixels are kept" in n for n in manifest.notes)
    assert not any("none keeps a pixel" in n for n in manifest.notes)
    pack(root, tmp_path / "mapped", Recipe(mask_values={128: 255, 3: 0}), processes=1)
    assert read_manifest(tmp_path / "mapped").mask_values == {"0": 2, "255": 2}
    assert manifest.digest != read_manifest(tmp_path / "mapped").digest


def test_a_mask_is_turned_cropped_and_resized_with_its_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = np.zeros((16, 20), np.uint8)
    mask[:5, :7] = 255
    put(tmp_path / "s" / "data" / "a" / "1.jpg", encode(RGB, "JPEG", exif=exif))
    put(tmp_path / "s" / "mask" / "a" / "1.png", encode(mask))
    put(tmp_path / "s" / "data" / "a" / "2.jpg", encode(RGB, "JPEG", exif=exif))
    put(tmp_path / "s" / "mask" / "a" / "2.png", encode(np.rot90(mask, 3)))
    pack(tmp_path / "s", tmp_path / "out", processes=1, on_leak="report")
    masks = [np.asarray(Image.open(io.BytesIO(member(tmp_path / "out", r, "mask")))) for r in rows_of(tmp_path / "out")]
    for found in masks:
        np.testing.assert_array_equal(found, np.rot90(mask, 3))
    pack(tmp_path / "s", tmp_path / "small", Recipe(crop=(16, 16), size=(8, 8)), processes=1)
    found = np.asarray(Image.open(io.BytesIO(member(tmp_path / "small", rows_of(tmp_path / "small")[0], "mask"))))
    assert found.shape == (8, 8)
    assert set(np.unique(found)) <= {0, 255}


def test_masks_that_keep_nothing_are_told(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells" / "train" / "data", {"a": 2, "b": 2}, ".png").parents[1]
    for name in "ab":
        put(root / "train" / "mask" / name / f"{name}_000.png", encode(np.eye(16, 20, dtype=np.uint8)))
    pack(root, tmp_path / "out", processes=1)
    assert any("no mask reaches 128" in n and "mask_values" in n for n in read_manifest(tmp_path / "out").notes)
    pack(root, tmp_path / "mapped", Recipe(mask_values={1: 255}), processes=1)
    assert read_manifest(tmp_path / "mapped").mask_values == {"0": 2, "255": 2}
    assert not any("no mask reaches" in n for n in read_manifest(tmp_path / "mapped").notes)


@pytest.mark.parametrize(("size", "value"), [((16, 16), 6), ((16, 20), 3)])
def test_masks_that_would_fit_turned_and_not_are_told_and_a_recipe_decides(
    tmp_path: Path, size: tuple[int, int], value: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    mask = np.zeros(size, np.uint8)
    mask[2:5, 1:9] = 255
    put(tmp_path / "s" / "images" / "a.jpg", encode(pixels(1, size), "JPEG", exif=exif))
    put(tmp_path / "s" / "masks" / "a.png", encode(mask))
    digests = set()
    for how, wanted in ((None, turned(mask, value)), (False, turned(mask, value)), (True, mask)):
        dest = tmp_path / str(how)
        digests.add(pack(tmp_path / "s", dest, Recipe(masks_turned=how), processes=1).digest)
        stored_values = np.asarray(Image.open(io.BytesIO(member(dest, rows_of(dest)[0], "mask"))))
        np.testing.assert_array_equal(stored_values, wanted)
        told = [n for n in read_manifest(dest).notes if "masks_turned" in n]
        assert [n[:8] for n in told] == (["1 masks "] if how is None else [])
    assert len(digests) == 3


def test_a_mask_of_one_size_only_needs_no_word(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, size in (("a", (16, 20)), ("b", (20, 16))):
        put(tmp_path / "s" / "images" / f"{name}.jpg", encode(pixels(1), "JPEG", exif=exif))
        put(tmp_path / "s" / "masks" / f"{name}.png", encode(np.full(size, 255, np.uint8)))
    pack(tmp_path / "s", tmp_path / "out", processes=1)
    assert [n for n in read_manifest(tmp_path / "out").notes if "masks_turned" in n] == []
    for how, bad in ((True, "images/a.jpg"), (False, "images/b.jpg")):
        report = pack(tmp_path / "s", tmp_path / str(how), Recipe(masks_turned=how), processes=1, on_bad="skip")
        assert [row["path"] for row in report.skipped] == [bad]
