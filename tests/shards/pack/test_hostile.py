"""Folders as they come from disks and the web: every entry is accounted for, and nothing bad enters."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from trees import by_path, class_folders, course, encode, picture, pixels, put, signature

from medvq.config.recipe import Recipe
from medvq.errors import UsageError
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.dataset.verify import verify
from medvq.shards.image.bad import BadImage
from medvq.shards.image.decode import decode
from medvq.shards.pack.pack import BadSamplesError, pack
from medvq.shards.source.resolve import read_source

RECIPE = Recipe()
GOOD_JPEG = encode(pixels(9), "JPEG")


def files(root: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(root))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few KB that says it has `width` x `height` pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )


def test_a_hostile_tree(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"a": 5, "b": 5}, suffix=".png")
    good = (root / "a" / "a_000.png").read_bytes()
    bad = {
        "a/cut.png": good[:-20],
        "a/flipped.png": good[:60] + bytes([good[60] ^ 16]) + good[61:],
        "a/zero.jpg": b"",
        "a/zeros.jpg": bytes(4000),
        "a/page.jpg": b"<html>Not found</html>",
        "a/lfs.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "b/bomb.png": bomb(60000, 60000),
        "b/no_pixels.png": bomb(0, 5),
        "b/junk.webp": b"RIFF\x10\x00\x00\x00WEBPVP8 junk",
        "stray.png": encode(pixels(77)),
        "deep/er/x.png": encode(pixels(78)),
    }
    ignored = {
        ".hidden.png": good, "a/.DS_Store": b"x", "a/Thumbs.db": b"x", "a/._a_000.png": b"x", "readme.txt": b"x",
        ".ipynb_checkpoints/a_000-checkpoint.png": good, "__MACOSX/a/a_000.png": good, "a/scan.dcm": bytes(200),
        "b/desktop.ini": b"x",
    }  # fmt: skip
    for path, data in {**bad, **ignored}.items():
        put(root / path, data)
    (root / "empty class").mkdir()
    outside = put(tmp_path / "secret.png", encode(pixels(99)))
    (root / "a" / "leaves.png").symlink_to(outside)
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "nowhere.png").symlink_to(root / "gone.png")
    os.mkfifo(root / "a" / "pipe.png")
    links = {"a/leaves.png", "a/loop", "a/nowhere.png", "a/pipe.png"}
    with pytest.raises(BadSamplesError) as e:
        pack(root, tmp_path / "out", processes=1)
    assert {b.path for b in e.value.bad} == set(bad)
    report = pack(root, tmp_path / "out", processes=2, on_bad="skip")
    manifest = read_manifest(tmp_path / "out")
    assert {s["path"] for s in manifest.skipped} == set(bad)
    assert {s["path"] for s in manifest.ignored} == set(ignored) | links
    assert (report.written, report.seen) == (10, 10 + len(bad) + len(ignored) + 4)
    assert report.seen == report.written + report.ignored + len(report.skipped)
    assert report.seen == files(root) + 1, "every file, and the linked folder"
    assert manifest.classes == ["a", "b"]
    assert any("empty class" in n for n in manifest.notes)
    reasons = {s["path"]: s["reason"] for s in [*manifest.skipped, *manifest.ignored]}
    for path, part in {"a/lfs.png": "LFS", "b/bomb.png": "max_pixels", "a/leaves.png": "leaves the source",
                       "a/loop": "link to a folder", "a/flipped.png": "checksum", "a/zero.jpg": "empty",
                       "a/zeros.jpg": "zero bytes", "stray.png": "does not fit the layout"}.items():  # fmt: skip
        assert part in reasons[path]


def test_a_link_to_a_file_of_the_source_is_a_file(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"pool": 4}, suffix=".png")
    for i, split in enumerate(["train", "train", "val", "test"]):
        (root / split / "a").mkdir(parents=True, exist_ok=True)
        (root / split / "a" / f"{i}.png").symlink_to(root / "pool" / f"pool_00{i}.png")
    recipe = Recipe(images=["{split}/{class}/{name}"])
    assert pack(root, tmp_path / "out", recipe, processes=1).splits == {"train": 2, "val": 1, "test": 1}


def test_links_out_of_the_source_are_told_and_followed_into_stated_folders(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"benign": 3}, suffix=".png")
    store = class_folders(tmp_path / "store", {"malignant": 4}, suffix=".png", first=50)
    (root / "malignant").symlink_to(store / "malignant")
    (root / "benign" / "linked.png").symlink_to(picture(store / "x.png", 99))
    (store / "malignant" / "circle").symlink_to(store / "malignant")
    (store / "malignant" / "up").symlink_to(store)
    found = read_source(root).arranged
    assert found.notes[0].startswith("1 linked folders and 1 linked files outside of the source are NOT read")
    links = found.notes[0].rpartition("links: [")[2].removesuffix("]`").strip('"')
    pack(root, tmp_path / "out", Recipe(links=[links]), processes=2)
    manifest = read_manifest(tmp_path / "out")
    assert manifest.splits["train"].classes == {"benign": 4, "malignant": 4}
    assert not [n for n in manifest.notes if "NOT read" in n]
    assert {i["reason"] for i in manifest.ignored} == {"a link to a folder that is read already"}


def test_names_of_one_look_and_stems_of_one_name(tmp_path: Path) -> None:
    root = tmp_path / "cells"
    composed, apart = "Zelle é", unicodedata.normalize("NFD", "Zelle é")
    picture(root / composed / "é.png", 1)
    picture(root / apart / "é.png", 2)
    picture(root / composed / "same.png", 3)
    picture(root / composed / "same.bmp", 4)
    picture(root / "other" / "same.png", 5)
    report = pack(root, tmp_path / "out", processes=1)
    manifest = read_manifest(tmp_path / "out")
    assert report.written == 5
    assert manifest.classes == [composed, "other"]
    assert len({r["key"] for r in by_path(tmp_path / "out").values()}) == 5


def test_classes_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"Benign": 2, "benign": 2, "other": 1})
    put(root / "other" / "broken.jpg", b"\xff\xd8\xff junk")
    with pytest.raises(UsageError, match="differ only in case: Benign and benign") as e:
        pack(root, tmp_path / "out", processes=1)
    assert e.value.where == "Benign, benign"
    assert "classes: {benign: [Benign], other: []}" in str(e.value.hint)
    assert "bad files are listed once this is mended" in str(e.value.hint)
    recipe = Recipe(images=["{class}/{name}"], classes={"benign": ["Benign"], "other": []})
    with pytest.raises(BadSamplesError, match=r"broken\.jpg"):
        pack(root, tmp_path / "out", recipe, processes=1)
    assert pack(root, tmp_path / "out", recipe, processes=1, on_bad="skip").written == 5


def test_a_mask_of_another_size_or_that_does_not_decode_is_bad(tmp_path: Path) -> None:
    root = course(tmp_path / "wbc", {"train": {"a": 7, "b": 3}})
    put(root / "train" / "mask" / "a" / "a_000.png", encode(np.zeros((16, 21), np.uint8)))
    put(root / "train" / "mask" / "a" / "a_003.png", b"<html>")
    with pytest.raises(BadSamplesError) as e:
        pack(root, tmp_path / "out", processes=1)
    reasons = {b.path: b.reason for b in e.value.bad}
    assert "the mask is 21x16, its image 20x16" in reasons["train/data/a/a_000.png"]
    assert "web page" in reasons["train/data/a/a_003.png"]
    assert pack(root, tmp_path / "out", processes=1, on_bad="skip").written == 8


def test_names_that_are_not_utf_8_are_told(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"a": 2, "b": 2})
    raw = os.fsencode(root / "a") + b"/\xff\xfe.jpg"
    with open(raw, "wb") as f:
        f.write(encode(pixels(5), "JPEG"))
    with open(os.fsencode(root / "b") + b"/\xff.txt", "wb") as f:
        f.write(b"note")
    with pytest.raises(BadSamplesError, match="not UTF-8"):
        pack(root, tmp_path / "out", processes=1)
    report = pack(root, tmp_path / "out", processes=1, on_bad="skip")
    assert (report.seen, report.written, report.ignored) == (6, 4, 1)
    assert report.skipped == [{"path": "a/\\xff\\xfe.jpg", "reason": "the name is not UTF-8"}]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_bad(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"a": 2, "b": 2})
    (root / "closed").mkdir(mode=0o000)
    with pytest.raises(BadSamplesError, match="cannot be listed"):
        pack(root, tmp_path / "out", processes=1)


def test_a_tree_deeper_than_the_stack_of_python(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"a": 2, "b": 2})
    deepest = os.open(root / "a", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=deepest)
        below = os.open("d", os.O_RDONLY, dir_fd=deepest)
        os.close(deepest)
        deepest = below
    fd = os.open("x.png", os.O_CREAT | os.O_WRONLY, dir_fd=deepest)
    os.write(fd, encode(pixels(9)))
    for f in (fd, deepest):
        os.close(f)
    try:
        report = pack(root, tmp_path / "out", processes=1, on_bad="skip")
    finally:
        subprocess.run(["rm", "-rf", root / "a" / "d"], check=True)  # pytest's own cleaning recurses
    assert (report.written, report.seen) == (4, 5)
    assert report.skipped[0]["path"].startswith("a/d/d/d/")


def test_folders_with_braces_are_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "s" / "{wrap}", {"a{}": 2, "{class}": 2})
    assert pack(tmp_path / "s", tmp_path / "out", processes=1).written == 4
    assert read_manifest(tmp_path / "out").classes == ["a{}", "{class}"]
    class_folders(tmp_path / "flat", {"{all}": 3})
    assert pack(tmp_path / "flat", tmp_path / "out2", processes=1).written == 3


NAMES = st.sampled_from(["x.png", "x.jpg", "y.png", "z", "z.txt", ".h.png", "Thumbs.db", "a b.png", "é.png", "x.y.png"])
FOLDERS = st.sampled_from(["", "a/", "b/", "a/.cache/", "__MACOSX/a/", "a/deep/", "C/"])
CONTENTS = st.one_of(
    st.integers(0, 5).map(lambda n: encode(pixels(n))), st.sampled_from([b"", b"<html>", GOOD_JPEG, GOOD_JPEG[:-9]])
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.builds(str.__add__, FOLDERS, NAMES), CONTENTS, min_size=1, max_size=14))
def test_every_file_of_any_tree_is_accounted_for(tmp_path: Path, tree: dict[str, bytes]) -> None:
    shutil.rmtree(tmp_path)
    for path, data in tree.items():
        put(tmp_path / "s" / path, data)
    try:
        report = pack(tmp_path / "s", tmp_path / "out", processes=1, on_bad="skip", on_leak="report")
    except (UsageError, BadSamplesError):
        assert [p.name for p in tmp_path.iterdir()] == ["s"]
        return
    manifest = read_manifest(tmp_path / "out")
    left = [*manifest.skipped, *manifest.ignored]
    assert sorted([*by_path(tmp_path / "out"), *(row["path"] for row in left)]) == sorted(tree)
    assert report.seen == len(tree) == report.written + report.ignored + len(report.skipped)
    assert all(row["reason"] for row in left)
    assert verify(tmp_path / "out", deep=True) == []


def test_all_bad_is_an_error_even_where_bad_is_skipped(tmp_path: Path) -> None:
    put(tmp_path / "s" / "a" / "1.png", b"x")
    with pytest.raises(BadSamplesError):
        pack(tmp_path / "s", tmp_path / "out", processes=1, on_bad="skip")
    assert not (tmp_path / "out").exists()


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in (bomb(60_000, 60_000), bomb(2**31 - 1, 2**31 - 1)):
        with pytest.raises(BadImage):
            decode(data, RECIPE)
    with pytest.raises(BadImage):
        decode(bomb(9000, 9000), Recipe(max_pixels=1000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def tiff(width: int, height: int, strip: bytes, strips: int = 1) -> bytes:
    """A deflated grey TIFF that says it has `width` x `height` pixels in so many `strips`."""
    tags = [(256, 1, width), (257, 1, height), (258, 1, 8), (259, 1, 8), (262, 1, 1), (273, strips, 8), (277, 1, 1),
            (278, 1, height), (279, strips, len(strip))]  # fmt: skip
    strip += bytes(len(strip) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


def with_size(kind: str, at: int, layout: str, side: int) -> bytes:
    """A small image whose header says that it is `side` x `side`."""
    data = bytearray(encode(Image.new("P" if kind == "GIF" else "RGB", (10, 10)), kind))
    data[at : at + struct.calcsize(layout)] = struct.pack(layout, side, side)
    return bytes(data)


FEW, MANY = zlib.compress(bytes(1000)), zlib.compress(bytes(300_000_000), 9)
LIARS = {
    "bmp": with_size("BMP", 18, "<ii", 50_000),
    "gif": with_size("GIF", 6, "<HH", 65_535),
    "tiff": tiff(60_000, 60_000, FEW),
    "tiff-strips": tiff(20, 20, FEW, 0x3FFFFFFF),
    "pnm": b"P6\n60000 60000\n255\n" + bytes(100),
    "jpeg": (lambda d, at: d[:at] + struct.pack(">HH", 65_000, 65_000) + d[at + 4 :])(
        GOOD_JPEG, GOOD_JPEG.index(b"\xff\xc0") + 5
    ),
    "webp": encode(Image.new("RGB", (16_383, 16_383)), "WEBP", lossless=True, method=0),
    "npy": b"\x93NUMPY\x01\0\x76\0" + b"{'descr':'|u1','fortran_order':False,'shape':(99999,99999)}".ljust(118),
}


def peak_of(code: str, *arguments: str) -> int:
    """Return by how many MB `code` raises the memory of a process whose imports are done."""
    before = r"""
import re, sys
import numpy as np
from PIL import Image
from medvq.config.recipe import Recipe
from medvq.shards.image.bad import BadImage
from medvq.shards.image.decode import decode
from pathlib import Path
Image.init()
decode(Path(sys.argv[1]).read_bytes(), Recipe())
used = lambda: int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024
begin = used()
"""
    done = subprocess.run([sys.executable, "-c", before + code + "\nprint(used() - begin)", *arguments],
                          capture_output=True, text=True, check=True)  # fmt: skip
    return int(done.stdout)


def test_bombs_of_every_kind_are_refused_in_little_memory(tmp_path: Path) -> None:
    names = [str(put(tmp_path / name, data)) for name, data in LIARS.items()]
    code = """
for name in sys.argv[2:]:
    try:
        decode(Path(name).read_bytes(), Recipe())
    except BadImage as e:
        assert " at 0x" not in str(e), e
    else:
        raise SystemExit(name)
"""
    assert peak_of(code, str(put(tmp_path / "good.jpg", GOOD_JPEG)), *names) < 60


def test_data_that_inflate_beyond_their_image_are_not_inflated(tmp_path: Path) -> None:
    text = b"Comment\0\0" + MANY
    image = encode(pixels(1))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    files = {"text.png": image[:33] + chunk + image[33:], "strip.tif": tiff(20, 20, MANY), "long.png": bomb_within()}
    names = [str(put(tmp_path / name, data)) for name, data in files.items()]
    code = "for name in sys.argv[2:]: assert decode(Path(name).read_bytes(), Recipe()).pixels.size < 10_000"
    assert peak_of(code, str(put(tmp_path / "good.jpg", GOOD_JPEG)), *names) < 60


def bomb_within() -> bytes:
    """A PNG of 20 x 20 whose data go on for 300 MB."""
    whole = bomb(20, 20)
    return (
        whole[:33]
        + struct.pack(">I", len(MANY))
        + b"IDAT"
        + MANY
        + struct.pack(">I", zlib.crc32(b"IDAT" + MANY))
        + whole[-12:]
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "F", "I;16"])
def test_conversion_takes_a_few_bytes_a_pixel(tmp_path: Path, mode: str) -> None:
    kind = {"F": "TIFF", "I;16": "TIFF"}.get(mode, "PNG")
    path = put(tmp_path / "large", encode(Image.new(mode, (4000, 4000)), kind))
    code = "decode(Path(sys.argv[2]).read_bytes(), Recipe())"
    megapixels = 16
    assert peak_of(code, str(put(tmp_path / "good.jpg", GOOD_JPEG)), str(path)) < 16 * megapixels


def test_what_a_decoder_says_is_the_same_in_every_process(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"a": 3, "b": 3})
    put(root / "a" / "x.tif", b"II*\0" + bytes(20))
    put(root / "b" / "y.webp", b"RIFF\x10\x00\x00\x00WEBPVP8 junk")
    for n in (1, 2):
        pack(root, tmp_path / f"out-{n}", processes=n, on_bad="skip")
    assert signature(tmp_path / "out-1") == signature(tmp_path / "out-2")
    assert all("0x" not in s["reason"] for s in read_manifest(tmp_path / "out-1").skipped)


def test_a_tree_of_many_files_is_listed_once(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"a": 3, "b": 3})
    found = read_source(root)
    assert [s.path for s in found.arranged.samples] == sorted(s.path for s in found.arranged.samples)
    assert found.seen == 6
