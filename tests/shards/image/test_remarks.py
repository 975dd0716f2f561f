"""What is lost or changed when an image is read is counted and told, and nothing of Pillow reaches the terminal."""

from __future__ import annotations

import io
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import by_path, encode, member, picture, pixels, put

from medvq.config.recipe import Recipe
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.image.bad import BadImage
from medvq.shards.image.decode import decode, decode_mask
from medvq.shards.image.pages import count_pages, page_bytes
from medvq.shards.pack.pack import pack

RECIPE = Recipe()


def tiff(pages: list[np.ndarray], photometric: int, **tags: tuple[int, ...]) -> bytes:
    """An uncompressed TIFF of pages (H, W) or (H, W, C)."""
    out, previous = bytearray(b"II*\0\0\0\0\0"), 4
    for page in pages:
        start = len(out)
        out += page.tobytes()
        samples = page.shape[2] if page.ndim == 3 else 1
        bits = (8 * page.itemsize,) * samples
        place = len(out)
        out += struct.pack(f"<{samples}H", *bits)
        where = place if samples > 2 else struct.unpack("<I", struct.pack("<2H", *(*bits, 0)[:2]))[0]
        kind = {"f": 3, "u": 1, "i": 2}[page.dtype.kind]
        rows = [(256, 4, 1, page.shape[1]), (257, 4, 1, page.shape[0]), (258, 3, samples, where), (259, 3, 1, 1),
                (262, 3, 1, photometric), (273, 4, 1, start), (277, 3, 1, samples), (278, 4, 1, page.shape[0]),
                (279, 4, 1, page.nbytes)]  # fmt: skip
        rows += [(338, 3, 1, tags["extra"][0])] if "extra" in tags else []
        rows += [(339, 3, 1, kind)]
        out[previous : previous + 4] = struct.pack("<I", len(out))
        out += struct.pack("<H", len(rows)) + b"".join(struct.pack("<HHII", *row) for row in rows)
        previous = len(out)
        out += bytes(4)
    return bytes(out)


RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
GREY = pixels(1, channels=1)


@pytest.mark.parametrize("window", [None, (0, 65535)])
def test_white_is_zero_is_inverted_at_every_depth(window: tuple[float, float] | None) -> None:
    recipe = Recipe(window=window)
    black, white = decode(tiff([RAMP], 1), recipe), decode(tiff([65535 - RAMP], 0), recipe)
    if window is None:
        np.testing.assert_array_equal(black.pixels, white.pixels)
    assert np.abs(black.pixels.astype(int) - white.pixels).max() <= 1
    assert "white is zero" in white.rules
    narrow = (RAMP >> 8).astype(np.uint8)
    np.testing.assert_array_equal(
        decode(tiff([narrow], 1), RECIPE).pixels, decode(tiff([255 - narrow], 0), RECIPE).pixels
    )


def frames(kind: str) -> bytes:
    out = io.BytesIO()
    first, *rest = [Image.fromarray(pixels(i)) for i in range(3)]
    first.save(out, kind, save_all=True, append_images=rest)
    return out.getvalue()


COLOUR16 = np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=2)


@pytest.mark.parametrize(
    ("data", "kind", "rule"),
    [
        (tiff([RAMP] * 20, 1), "pages", "first frame"),
        (frames("GIF"), "pages", "first frame"),
        (frames("PNG"), "pages", None),
        (frames("WEBP"), "pages", "first frame"),
        (tiff([COLOUR16], 2), "16-bit colour", "16-bit colour"),
        (b"P6 64 64 65535\n" + COLOUR16.astype(">u2").tobytes(), "16-bit colour", "16-bit colour"),
        (tiff([np.stack([GREY, GREY[::-1]], axis=2)], 1, extra=(0,)), "extra channels", "extra channels"),
        (encode(Image.fromarray(np.dstack([pixels(2), GREY]))), "transparent", "alpha"),
    ],
    ids=["tiff", "gif", "apng", "webp", "tiff16", "ppm16", "two", "alpha"],
)
def test_what_is_dropped_is_told(data: bytes, kind: str, rule: str | None) -> None:
    found = decode(data, RECIPE)
    assert kind in found.remarks
    assert rule is None or rule in found.rules


def mask_with_alpha(colours: np.ndarray, alpha: np.ndarray) -> bytes:
    return encode(Image.fromarray(np.dstack([colours, alpha])))


def test_a_mask_in_the_alpha_channel_is_found() -> None:
    alpha = np.where(GREY > 128, 255, 0).astype(np.uint8)
    black, shape = np.zeros((*GREY.shape, 3), np.uint8), np.repeat(alpha[..., None], 3, axis=2)
    found = decode_mask(mask_with_alpha(black, alpha), RECIPE)
    np.testing.assert_array_equal(found.pixels, alpha)
    assert ("mask alpha" in found.rules, "mask alpha" in found.remarks) == (True, True)
    for same in (mask_with_alpha(shape, alpha), mask_with_alpha(shape, np.full_like(alpha, 255))):
        np.testing.assert_array_equal(decode_mask(same, RECIPE).pixels, alpha)
    with pytest.raises(BadImage, match="different things"):
        decode_mask(mask_with_alpha(np.repeat(GREY[..., None], 3, axis=2), alpha), RECIPE)


def test_a_window_for_each_kind_of_values(tmp_path: Path) -> None:
    integers, floats = (GREY.astype(np.uint16) * 16), (GREY / 255).astype(np.float32)
    put(tmp_path / "s" / "a" / "g.png", encode(Image.fromarray(integers)))
    put(tmp_path / "s" / "a" / "f.tif", encode(Image.fromarray(floats), "TIFF"))
    pack(tmp_path / "s", tmp_path / "none", processes=1)
    (advice,) = [n for n in read_manifest(tmp_path / "none").notes if "come out dark" in n]
    assert "`window: {integer: [0, 4095]}`" in advice
    pack(tmp_path / "s", tmp_path / "one", Recipe(window=(0, 4095)), processes=1)
    assert list(read_manifest(tmp_path / "one").remarks) == ["one grey"]
    recipe = Recipe.model_validate({"window": {"integer": [0, 4095]}})
    pack(tmp_path / "s", tmp_path / "each", recipe, processes=1)
    assert read_manifest(tmp_path / "each").remarks == {}
    pack(tmp_path / "s", tmp_path / "less", Recipe(window=(0, 2000)), processes=1)
    assert "outside window" in read_manifest(tmp_path / "less").remarks


def test_the_window_that_an_error_proposes_works() -> None:
    data = encode(Image.fromarray((GREY.astype(np.float32) - 100) * 7), "TIFF")
    with pytest.raises(BadImage) as e:
        decode(data, RECIPE)
    low, high = map(float, str(e.value).partition("window: [")[2].rstrip("]`").split(", "))
    found = decode(data, Recipe(window=(low, high)))
    assert (found.pixels.min(), found.pixels.max(), found.remarks) == (0, 255, {})


def test_a_kind_of_tiff_that_is_not_read_is_not_called_damaged() -> None:
    with pytest.raises(BadImage, match=r"pixels of 64-bit float, which medvq does not read: save it with"):
        decode(tiff([GREY.astype(np.float64)], 1), RECIPE)
    with pytest.raises(BadImage, match="damaged TIFF"):
        decode(tiff([GREY], 1)[:-90], RECIPE)


def test_warnings_of_pillow_are_counted_and_never_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    palette = Image.fromarray(GREY).convert("P")
    out = io.BytesIO()
    palette.save(out, "PNG", transparency=bytes(range(256)))
    put(tmp_path / "s" / "a" / "p.png", out.getvalue())
    odd = bytearray(tiff([GREY], 1))
    count = struct.unpack_from("<H", odd, struct.unpack_from("<I", odd, 4)[0])[0]
    at = struct.unpack_from("<I", odd, 4)[0] + 2 + 12 * (count - 1)
    odd[at : at + 12] = struct.pack("<HHII", 37500, 7, 10_000, 10**6)  # a tag that points beyond the file
    put(tmp_path / "s" / "a" / "odd.tif", bytes(odd))
    picture(tmp_path / "s" / "a" / "fine.png", 3)
    pack(tmp_path / "s", tmp_path / "out", processes=2)
    manifest = read_manifest(tmp_path / "out")
    assert [n for n in manifest.notes if "made the decoder warn" in n and "odd.tif" in n], manifest.notes
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("opaque", [False, True])
def test_a_kind_is_one_note_with_a_count_and_an_example(tmp_path: Path, opaque: bool) -> None:
    for i in range(3):
        put(tmp_path / "s" / "images" / f"z{i}.tif", tiff([np.roll(RAMP, i)] * 20, 1))
        put(tmp_path / "s" / "masks" / f"z{i}.png", encode(np.zeros(RAMP.shape, np.uint8)))
    pack(tmp_path / "s", tmp_path / "out", Recipe(opaque_keys=opaque), processes=1)
    manifest = read_manifest(tmp_path / "out")
    notes = [n for n in manifest.notes if n.startswith("3 ")]
    assert [n.split(",")[0].split(":")[0] for n in notes] == [
        "3 images have further pages or frames", "3 masks are empty",
    ]  # fmt: skip
    assert ("images/z0.tif: 20 pages" in notes[0]) is not opaque
    assert [len(about) for about in manifest.remarks.values()] == [3, 3]


@pytest.mark.parametrize("processes", [1, 2])
def test_pages_become_samples_of_one_group(tmp_path: Path, processes: int) -> None:
    stack = [np.roll(RAMP, i, axis=1) for i in range(5)]
    put(tmp_path / "s" / "a" / "z.tif", tiff(stack, 1))
    put(tmp_path / "s" / "a" / "w.tif", tiff([65535 - page for page in stack[:2]], 0))
    put(tmp_path / "s" / "b" / "g.gif", frames("GIF"))
    put(tmp_path / "s" / "b" / "p.png", frames("PNG"))
    picture(tmp_path / "s" / "b" / "one.png", 9)
    report = pack(tmp_path / "s", tmp_path / "out", Recipe(pages="all"), processes=processes, on_bad="skip")
    found = by_path(tmp_path / "out")
    assert (report.written, report.skipped, report.seen) == (5 + 2 + 3 + 3 + 1, [], 14)
    assert Counter(row["group"] for row in found.values()) == {
        "a/z.tif": 5, "a/w.tif": 2, "b/g.gif": 3, "b/p.png": 3, None: 1,
    }  # fmt: skip
    for n, page in enumerate(stack):
        stored = Image.open(io.BytesIO(member(tmp_path / "out", found[f"a/z.tif#page={n}"])))
        np.testing.assert_array_equal(np.asarray(stored), decode(tiff([page], 1), RECIPE).pixels)
    assert "pages" not in read_manifest(tmp_path / "out").remarks
    assert pack(tmp_path / "s", tmp_path / "out", Recipe(pages="all"), processes=1).unchanged


def test_pages_of_masks_belong_to_pages_of_images(tmp_path: Path) -> None:
    masks = [np.where(10000 * i < RAMP, 255, 0).astype(np.uint8) for i in range(3)]
    put(tmp_path / "s" / "images" / "x.tif", tiff([np.roll(RAMP, i, axis=1) for i in range(3)], 1))
    put(tmp_path / "s" / "masks" / "x.tif", tiff(masks, 1))
    put(tmp_path / "s" / "images" / "y.tif", tiff([np.roll(RAMP, i, axis=0) for i in range(3)], 1))
    put(tmp_path / "s" / "masks" / "y.tif", tiff(masks[:1], 1))
    report = pack(tmp_path / "s", tmp_path / "out", Recipe(pages="all"), processes=1, on_bad="skip")
    assert report.skipped == [{"path": "images/y.tif", "reason": "it has 3 pages, and its mask has 1"}]
    found = by_path(tmp_path / "out")
    for n in range(3):
        mask = Image.open(io.BytesIO(member(tmp_path / "out", found[f"images/x.tif#page={n}"], "mask")))
        np.testing.assert_array_equal(np.asarray(mask), masks[n])


def test_pages_of_a_big_tiff() -> None:
    out = io.BytesIO()
    first, *rest = [Image.fromarray(np.roll(RAMP, i, axis=1)) for i in range(3)]
    first.save(out, "TIFF", save_all=True, append_images=rest, big_tiff=True)
    data = out.getvalue()
    assert data[:4] in (b"II+\0", b"MM\0+")
    assert (count_pages(data), decode(data, RECIPE).remarks["pages"]) == (3, "3 pages")
    for n, page in enumerate([first, *rest]):
        found = decode(page_bytes(data, n), RECIPE)
        np.testing.assert_array_equal(found.pixels, decode(tiff([np.asarray(page)], 1), RECIPE).pixels)
        assert found.remarks == {}


@pytest.mark.parametrize("at", range(0, 400, 7))
def test_a_damaged_directory_is_an_answer(at: int) -> None:
    data = bytearray(tiff([GREY] * 2, 1, extra=(0,)))
    data[-400 + at] ^= 255
    assert count_pages(bytes(data)) >= 1
    with suppress(BadImage):
        decode(bytes(data), RECIPE)
