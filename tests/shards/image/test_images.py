"""Every kind of image: its bytes are kept, or it is converted by a stated rule."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin
from trees import by_path, class_folders, encode, member, members, picture, pixels, put, rows_of

from medvq.config.recipe import Recipe
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.image.arrays import to_8_bits
from medvq.shards.image.bad import BadImage
from medvq.shards.image.decode import RULES, decode
from medvq.shards.image.fit import fitted, stored, turned
from medvq.shards.image.sniff import sniff
from medvq.shards.image.strip import plain_jpeg, plain_png
from medvq.shards.pack.pack import pack

RECIPE = Recipe()
RGB, GREY = pixels(1), pixels(2, channels=1)


def kept_and_pixels(data: bytes, recipe: Recipe = RECIPE) -> tuple[bool, np.ndarray, list[str], str]:
    content, ext, image, rules = stored(decode(data, recipe), recipe)
    read_back = np.asarray(Image.open(io.BytesIO(content)))
    if ext == "png":
        np.testing.assert_array_equal(read_back, image)
    return content == data, image, rules, ext


@pytest.mark.parametrize(
    "data",
    [encode(RGB), encode(GREY), encode(RGB, "JPEG"), encode(GREY, "JPEG"), encode(RGB, "JPEG", progressive=True),
     encode(RGB, "JPEG", subsampling=2, quality=50), encode(RGB, "PNG", optimize=True)],
    ids=["png", "png-grey", "jpeg", "jpeg-grey", "jpeg-progressive", "jpeg-420", "png-optimised"],
)  # fmt: skip
def test_bytes_pass_through_where_nothing_changes(data: bytes) -> None:
    kept, image, rules, _ = kept_and_pixels(data)
    assert (kept, rules) == (True, [])
    difference = np.abs(image.astype(int) - np.asarray(Image.open(io.BytesIO(data))).astype(int))
    assert difference.max() <= 2, "two builds of one JPEG decoder may round differently"


def alpha_over(image: np.ndarray, alpha: np.ndarray, ground: int) -> np.ndarray:
    a = alpha[..., None].astype(float) / 255 if image.ndim == 3 else alpha / 255.0
    return np.rint(image * a + ground * (1 - a))


ALPHA = np.linspace(0, 255, RGB.shape[0] * RGB.shape[1]).reshape(RGB.shape[:2]).astype(np.uint8)
PALETTE = Image.fromarray(RGB).quantize(16)
GREY_ALPHA = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
GREY_PALETTE = Image.fromarray(GREY).quantize(8)
ONE_BIT = Image.fromarray(GREY).convert("1")
GREY16 = GREY.astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("data", "wanted", "rule"),
    [
        (encode(RGB, "BMP"), RGB, "container"),
        (encode(GREY, "BMP"), GREY, "container"),
        (encode(RGB, "TIFF"), RGB, "container"),
        (encode(RGB, "TIFF", compression="tiff_lzw"), RGB, "container"),
        (encode(RGB, "WEBP", lossless=True), RGB, "container"),
        (encode(PALETTE), np.asarray(PALETTE.convert("RGB")), "palette"),
        (encode(GREY_PALETTE), np.asarray(GREY_PALETTE.convert("L")), "palette"),
        (encode(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB")), "palette"),
        (encode(ONE_BIT), np.asarray(ONE_BIT.convert("L")), "1-bit"),
        (encode(np.dstack([RGB, ALPHA])), alpha_over(RGB, ALPHA, 0), "alpha"),
        (encode(GREY_ALPHA), alpha_over(GREY, ALPHA, 0), "alpha"),
        (encode(GREY16), GREY, "16-bit"),
        (encode(GREY16, "TIFF"), GREY, "16-bit"),
        (encode((GREY / 255).astype(np.float32), "TIFF"), GREY, "float"),
        (encode(Image.fromarray(RGB).convert("CMYK"), "TIFF"), RGB, "cmyk"),
    ],
    ids=["bmp", "bmp-grey", "tiff", "tiff-lzw", "webp", "palette", "palette-grey", "gif", "1-bit", "rgba", "la", "p16",
         "tiff16", "float", "cmyk-tiff"],
)  # fmt: skip
def test_other_kinds_are_converted_by_a_stated_rule(data: bytes, wanted: np.ndarray, rule: str) -> None:
    kept, image, rules, ext = kept_and_pixels(data)
    assert (kept, ext, rules[0]) == (False, "png", rule)
    assert set(rules) <= set(RULES)
    assert image.shape == wanted.shape
    assert np.abs(image.astype(int) - wanted).max() <= (1 if rule in ("alpha", "16-bit", "float", "cmyk") else 0)


def test_cmyk_jpeg_is_turned_to_rgb() -> None:
    data = encode(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=100)
    _, image, rules, _ = kept_and_pixels(data)
    assert rules == ["cmyk"]
    assert np.abs(image.astype(int) - RGB).mean() < 6


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_is_applied(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    data = encode(RGB, "JPEG", exif=exif, quality=95)
    _, image, rules, ext = kept_and_pixels(data)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert image.shape == wanted.shape
    assert np.abs(image.astype(int) - wanted).max() <= 2
    assert (rules, ext) == (([], "jpg") if value == 1 else (["orientation"], "png"))
    np.testing.assert_array_equal(turned(turned(RGB, value), {6: 8, 8: 6}.get(value, value)), RGB)


def test_tiff_orientation_is_applied_once() -> None:
    data = encode(RGB, "TIFF", tiffinfo={0x0112: 6})
    np.testing.assert_array_equal(decode(data, RECIPE).pixels, np.rot90(RGB, 3))
    assert decode(data, RECIPE).orientation == 1


def secret_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x9C9D] = "SMITH^JOHN".encode("utf-16-le")
    exif[0x010E] = "SMITH^JOHN"
    return encode(RGB, "JPEG", exif=exif, comment=b"patient SMITH^JOHN", icc_profile=b"SMITH^JOHN" * 20, dpi=(72, 72))


def secret_png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", "SMITH^JOHN")
    text.add_itxt("Comment", "SMITH^JOHN", zip=False)
    return encode(RGB, "PNG", pnginfo=text, dpi=(72, 72))


@pytest.mark.parametrize("data", [secret_jpeg(), secret_png(), secret_jpeg() + b"trailer SMITH^JOHN"])
def test_names_of_patients_are_stripped_without_touching_a_pixel(data: bytes) -> None:
    assert b"SMITH^JOHN" in data
    content, _, image, rules = stored(decode(data, RECIPE), RECIPE)
    assert b"SMITH" not in content
    assert len(content) < len(data)
    assert rules == []
    np.testing.assert_array_equal(Image.open(io.BytesIO(content)), Image.open(io.BytesIO(data)))
    strip = plain_jpeg if sniff(data) == "jpeg" else plain_png
    assert strip(content).data is content, "there is nothing more to strip"
    assert image.shape == RGB.shape


def test_a_jpeg_thumbnail_goes_and_its_colour_transform_stays() -> None:
    plain = encode(RGB, "JPEG", subsampling=0)
    jfif = plain[:2] + b"\xff\xe0\x00\x19JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x01\x03" + bytes(9) + plain[20:]
    assert plain_jpeg(jfif).data == plain_jpeg(plain).data == plain
    adobe = plain[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + plain[20:]
    assert plain_jpeg(adobe).data == adobe
    np.testing.assert_array_equal(decode(adobe, RECIPE).pixels[0, 0] != decode(plain, RECIPE).pixels[0, 0], True)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.fromarray(pixels(i)).quantize(32) for i in range(3)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    _, image, rules, _ = kept_and_pixels(data)
    assert rules[:2] == ["first frame", "palette"]
    np.testing.assert_array_equal(image, np.asarray(frames[0].convert("RGB")))


def test_a_window_shows_the_values_that_matter() -> None:
    values = np.array([[-1000, 0, 40, 80, 400]], np.int32)
    shown, rule = to_8_bits(values, (0.0, 80.0))
    assert (shown.tolist(), rule) == ([[0, 0, 128, 255, 255]], "window")
    with pytest.raises(BadImage, match="window"):
        to_8_bits(values, None)
    with pytest.raises(BadImage, match="window"):
        to_8_bits(np.array([[0.0, 2.0]]), None)
    with pytest.raises(BadImage, match="NaN"):
        to_8_bits(np.array([[0.0, np.nan]]), (0, 1))


def test_kind_is_told_by_content(tmp_path: Path) -> None:
    root = tmp_path / "cells"
    class_folders(root, {"a": 1, "b": 1})
    put(root / "a" / "really_png.jpg", encode(pixels(5)))
    put(root / "b" / "no_suffix", encode(pixels(6), "JPEG"))
    put(root / "b" / "note", "text")
    report = pack(root, tmp_path / "out", processes=1)
    rows = by_path(tmp_path / "out")
    assert {p: r["ext"] for p, r in rows.items() if "_" in p and "00" not in p} == {
        "a/really_png.jpg": "png", "b/no_suffix": "jpg"
    }  # fmt: skip
    assert report.ignored == 1


@pytest.mark.parametrize(
    ("fit", "shape", "what"), [("squeeze", (8, 8), None), ("crop", (8, 8), "crop"), ("pad", (8, 8), "crop")]
)
def test_fits(fit: str, shape: tuple[int, int], what: str | None) -> None:
    image = np.full((16, 32), 200, np.uint8)
    out, rules = fitted(image, Recipe.model_validate({"size": shape, "fit": fit, "background": 7}))
    assert out.shape == shape
    assert ("crop" in rules) == (what == "crop")
    if fit == "pad":
        assert (out[:2] == 7).all()
        assert (out[-2:] == 7).all()
        assert (out[2:-2] == 200).all()
    else:
        assert (out == 200).all()


def test_crop_keeps_the_centre_and_fills_what_is_missing() -> None:
    image = np.arange(7 * 5, dtype=np.uint8).reshape(7, 5)
    out, rules = fitted(image, Recipe(crop=(3, 3)))
    np.testing.assert_array_equal(out, image[2:5, 1:4])
    wide, _ = fitted(image, Recipe(crop=(3, 9), background=255))
    np.testing.assert_array_equal(wide[:, 2:7], image[2:5])
    assert (wide[:, :2] == 255).all()
    assert rules == ["crop"]


def test_resizing_is_pillows_antialiased_bilinear_and_masks_nearest() -> None:
    image = pixels(3, size=(40, 50))
    out, _ = fitted(image, Recipe(size=(9, 13)))
    np.testing.assert_array_equal(out, Image.fromarray(image).resize((13, 9), Image.Resampling.BILINEAR))
    mask = np.where(GREY > 100, 255, 128).astype(np.uint8)
    out, _ = fitted(mask, Recipe(size=(9, 13)), mask=True)
    assert set(np.unique(out)) <= {128, 255}


def test_channels_and_stores(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"a": 3, "b": 3}, suffix=".png")
    picture(root / "a" / "grey.png", 50, channels=1)
    for store, ext in (("png", "png"), ("jpeg", "jpg"), ("npy", "npy"), ("auto", "png")):
        recipe = Recipe.model_validate({"store": store, "channels": 3, "quality": 80})
        pack(root, tmp_path / store, recipe, processes=1)
        assert {r["ext"] for r in rows_of(tmp_path / store)} == {ext}
        facts = read_manifest(tmp_path / store).image
        assert (facts.width, facts.height, facts.channels, facts.store) == (20, 16, 3, store)
    for path, row in by_path(tmp_path / "npy").items():
        array = np.load(io.BytesIO(member(tmp_path / "npy", row)))
        assert array.shape == (16, 20, 3)
        np.testing.assert_array_equal(array, Image.open(root / path).convert("RGB"))
    pack(root, tmp_path / "grey", Recipe(channels=1), processes=1)
    manifest = read_manifest(tmp_path / "grey")
    assert manifest.image.channels == 1 == len(manifest.statistics.mean)
    assert manifest.conversions == {"luma": {"text": RULES["luma"], "images": 6}}


def test_rules_are_stated_with_their_values(tmp_path: Path) -> None:
    put(tmp_path / "s" / "a" / "1.png", encode(Image.new("RGBA", (20, 20), (9, 8, 7, 100))))
    put(tmp_path / "s" / "b" / "2.png", encode(np.full((20, 20), 700, np.uint16)))
    pack(tmp_path / "s", tmp_path / "out", Recipe(store="jpeg", background=(1, 2, 3), window=(0, 999)), processes=1)
    texts = {rule: c["text"] for rule, c in read_manifest(tmp_path / "out").conversions.items()}
    assert texts == {
        "alpha": "transparent pixels laid over the background [1, 2, 3]",
        "jpeg": "encoded as JPEG of quality 95, 4:4:4; mean and std are of the pixels before",
        "window": "grey values [0.0, 999.0] to 0..255, clipped",
    }


def test_grey_bytes_stay_in_a_colour_set(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"a": 2, "b": 2})
    picture(root / "a" / "grey.jpg", 50, channels=1)
    pack(root, tmp_path / "out", processes=1)
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.image.channels, manifest.conversions) == (3, {})
    row = by_path(tmp_path / "out")["a/grey.jpg"]
    assert member(tmp_path / "out", row) == (root / "a" / "grey.jpg").read_bytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(order: str) -> None:
    def raw(array: np.ndarray) -> bytes:
        out = io.BytesIO()
        np.save(out, np.asarray(array, order=order), allow_pickle=True)
        return out.getvalue()

    for image in (RGB, GREY):
        np.testing.assert_array_equal(decode(raw(image), RECIPE).pixels, image)
    np.testing.assert_array_equal(decode(raw(GREY[..., None]), RECIPE).pixels, GREY)
    np.testing.assert_array_equal(decode(raw(GREY16), RECIPE).pixels, GREY)
    for bad in (RGB[0, 0], np.zeros((2, 2, 4)), np.array([[{}]]), RGB.astype(np.float32)):
        with pytest.raises(BadImage):
            decode(raw(bad), RECIPE)
    for cut in (5, 40, 130, len(raw(RGB)) - 1):
        with pytest.raises(BadImage):
            decode(raw(RGB)[:cut], RECIPE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "npz"])
def test_16_bit_images_that_use_few_of_their_bits_are_told(tmp_path: Path, kind: str) -> None:
    def noted(highest: int, recipe: Recipe) -> list[str]:
        source, dest = tmp_path / f"{highest}.npz", tmp_path / f"{highest} {recipe.window}"
        images = (np.linspace(0, 1, 320).reshape(16, 20) * np.array([90, highest])[:, None, None]).astype(np.uint16)
        if kind == "npz":
            np.savez(source, train_images=images, train_labels=np.zeros((2, 1), np.uint8))
        else:
            for i, image in enumerate(images):
                put(source / f"{i}.{kind.lower()}", encode(image, kind))
        pack(source, dest, recipe, processes=1)
        return [n for n in read_manifest(dest).notes if "16-bit" in n]

    assert noted(4000, RECIPE) == [
        "no 16-bit image goes above 4000, and all come out dark: set `window: [0, 4095]` in a recipe"
    ]
    assert noted(4000, Recipe(window=(0, 4095))) == []
    assert noted(20000, RECIPE) == []


@pytest.mark.parametrize(
    ("store", "suffixes"), [("auto", {"png", "jpg"}), ("png", {"png"}), ("jpeg", {"jpg"}), ("npy", {"npy"})]
)
def test_one_suffix_in_a_dataset_where_the_store_names_one(tmp_path: Path, store: str, suffixes: set[str]) -> None:
    for i in range(6):
        picture(tmp_path / "s" / "ab"[i % 2] / f"{i}.{'png' if i % 3 else 'jpg'}", i)
    pack(tmp_path / "s", tmp_path / "out", Recipe(store=store), processes=1)
    assert {row["ext"] for row in rows_of(tmp_path / "out")} == suffixes
    assert {name.partition(".")[2] for name in members(tmp_path / "out")} == {*suffixes, "cls", "json"}
