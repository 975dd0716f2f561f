from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import (
    by_path,
    class_folders,
    course,
    encode,
    facts,
    member,
    members,
    picture,
    pixels,
    put,
    rows_of,
    signature,
)

from medvq.cli.packing import settings_of
from medvq.config.recipe import Recipe
from medvq.errors import DataError, MissingError, NotFoundError, UsageError
from medvq.shards.dataset.manifest import canonical, read_manifest
from medvq.shards.dataset.verify import verify
from medvq.shards.pack.digest import digest_of
from medvq.shards.pack.keys import keys_of
from medvq.shards.pack.pack import BadSamplesError, pack


def test_a_dataset_holds_every_image_with_its_label_in_plain_tars(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "cells", {"eosinophil": 4, "basophil": 3})
    report = pack(source, tmp_path / "out", processes=1)
    assert (report.seen, report.written, report.ignored, report.skipped) == (7, 7, 0, [])
    assert report.splits == {"train": 7}
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == ["basophil", "eosinophil"]
    assert manifest.splits["train"].classes == {"basophil": 3, "eosinophil": 4}
    for row in rows_of(tmp_path / "out"):
        path = facts(tmp_path / "out", row)["path"]
        assert member(tmp_path / "out", row) == (source / path).read_bytes()
        assert member(tmp_path / "out", row, "cls") == str(row["label"]).encode()
        assert manifest.classes[row["label"]] == path.split("/")[0]
    assert len(members(tmp_path / "out")) == 7 * 3
    assert verify(tmp_path / "out", deep=True) == []


def test_keys_are_plain_and_mixed_and_rows_follow_the_shards(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "cells", {"a": 30, "b": 30})
    pack(source, tmp_path / "out", Recipe(shard_samples=16), processes=1)
    rows = rows_of(tmp_path / "out")
    assert [r["key"] for r in rows] == sorted(r["key"] for r in rows)
    assert [r["shard"] for r in rows] == [i // 16 for i in range(60)]
    assert all("." not in r["key"] and r["key"].isascii() for r in rows)
    assert 4 < sum(r["label"] for r in rows[:20]) < 16, "a reader that streams meets both classes early"


def test_the_course_layout_needs_no_recipe(tmp_path: Path) -> None:
    counts = {"train": {"lymphocyte": 9, "monocyte": 4}, "val": {"lymphocyte": 3, "monocyte": 2}}
    course(tmp_path / "wbc", counts)
    pack(tmp_path / "wbc", tmp_path / "out", processes=1)
    manifest = read_manifest(tmp_path / "out")
    assert {n: s.classes for n, s in manifest.splits.items()} == counts
    assert manifest.splits["train"].masks == 3 + 2
    assert [s.file for s in manifest.shards] == ["train-000000.tar", "val-000000.tar"]
    masked = [r for r in rows_of(tmp_path / "out") if r["has_mask"]]
    for row in masked:
        path = facts(tmp_path / "out", row)["path"].replace("/data/", "/mask/")
        assert member(tmp_path / "out", row, "mask") == (tmp_path / "wbc" / path).read_bytes()


@pytest.mark.parametrize("processes", [2, 3])
def test_the_number_of_processes_changes_no_byte(tmp_path: Path, processes: int) -> None:
    source = course(tmp_path / "wbc", {"train": {"a": 90, "b": 70}, "val": {"a": 20, "b": 9}})
    recipe = Recipe(size=(9, 11), shard_samples=40)
    pack(source, tmp_path / "one", recipe, processes=1)
    pack(source, tmp_path / "more", recipe, processes=processes)
    assert signature(tmp_path / "one") == signature(tmp_path / "more")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["more", "one", "wbc"]


def test_packing_again_leaves_the_dataset_and_another_source_is_refused(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "cells", {"a": 3, "b": 3})
    first = pack(source, tmp_path / "out", processes=1)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    again = pack(source, tmp_path / "out", processes=1)
    assert again.unchanged
    assert (again.digest, again.splits) == (first.digest, first.splits)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    picture(source / "a" / "new.jpg", 99)
    with pytest.raises(UsageError, match=r"source changed since: 1 images are new, such as a/new\.jpg, 0 are gone"):
        pack(source, tmp_path / "out", processes=1)
    (source / "a" / "new.jpg").unlink()
    with pytest.raises(UsageError, match="the recipe or the options changed since, in size"):
        pack(source, tmp_path / "out", Recipe(size=(8, 8)), processes=1)
    (source / "a" / "a_000.jpg").rename(source / "b" / "a_000.jpg")
    with pytest.raises(UsageError, match="labels, splits, groups, masks or other files of the source changed"):
        pack(source, tmp_path / "out", processes=1)
    other = class_folders(tmp_path / "others", {"a": 3, "b": 3}, first=500)
    with pytest.raises(UsageError, match=r"no image of it is in this source: .* another one \(cells\)"):
        pack(other, tmp_path / "out", processes=1)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda p: None, NotFoundError),
        (lambda p: p.mkdir(), UsageError),
        (lambda p: put(p / "notes.txt", "nothing"), UsageError),
        (lambda p: put(p, "a file"), UsageError),
        (lambda p: put(p / ".hidden.png", encode(pixels(1))), UsageError),
    ],
    ids=["missing", "empty", "no-image", "a-file", "hidden-only"],
)
def test_a_source_without_images_is_an_error_that_leaves_nothing(tmp_path: Path, make, error) -> None:
    make(tmp_path / "source")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error) as e:
        pack(tmp_path / "source", tmp_path / "deep" / "out")
    assert e.value.where
    assert sorted(tmp_path.rglob("*")) == before


def test_dest_must_be_free(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "cells", {"a": 2, "b": 2})
    put(tmp_path / "taken" / "thesis.doc", "years of work")
    with pytest.raises(UsageError, match="no dataset"):
        pack(source, tmp_path / "taken")
    with pytest.raises(UsageError, match="not a folder"):
        pack(source, put(tmp_path / "file", "x"))
    (tmp_path / "empty").mkdir()
    assert pack(source, tmp_path / "empty", processes=1).written == 4
    assert (tmp_path / "taken" / "thesis.doc").exists()


def test_dest_inside_the_source_is_no_part_of_it(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "cells", {"a": 2, "b": 2})
    pack(source, source / "packed" / "out", processes=1)
    assert pack(source, source / "packed" / "out", processes=1).unchanged
    assert pack(source, tmp_path / "other", Recipe(ignore=["packed/*"]), processes=1).written == 4


def test_keys_are_unique_whatever_the_names() -> None:
    paths = ["a/x.png", "b/x.png", "c/x-2.png", "d/x-2.png", "e/y.png"]
    keys = keys_of(paths, ["0" * 64] * 5, opaque=False)
    assert len(set(keys)) == 5
    assert keys == keys_of(paths[::-1], ["0" * 64] * 5, opaque=False)[::-1]
    assert len(set(keys_of(paths, ["0" * 64] * 5, opaque=True))) == 5


def test_the_digest_is_of_content_and_not_of_names_or_places(tmp_path: Path) -> None:
    one = class_folders(tmp_path / "one", {"a": 5, "b": 4})
    two = tmp_path / "elsewhere" / "two"
    for i, path in enumerate(sorted(one.rglob("*.jpg"))):
        put(two / path.parent.name / f"renamed {i}.jpeg", path.read_bytes())
    a = pack(one, tmp_path / "out1", processes=1).digest
    assert a == pack(two, tmp_path / "out2", Recipe(store="png", opaque_keys=True), processes=1).digest
    assert [r["sha256"] for r in rows_of(tmp_path / "out1")] == [r["sha256"] for r in rows_of(tmp_path / "out2")]
    assert a != pack(one, tmp_path / "out3", Recipe(size=(8, 8)), processes=1).digest
    (two / "a").rename(two / "c")
    assert a != pack(two, tmp_path / "out4", processes=1).digest
    assert len(a) == 64
    assert digest_of([], Recipe(), []) != digest_of([], Recipe(channels=1), [])


def test_the_digest_can_be_computed_from_the_index_alone(tmp_path: Path) -> None:
    """Written here again from its description, so that it cannot change unnoticed."""
    import hashlib

    source = course(tmp_path / "wbc", {"train": {"a": 6, "b": 4}, "val": {"a": 2, "b": 2}})
    recipe = Recipe(images=["{split}/data/{class}/{group}_{*}.png"], masks="{split}/mask/{class}/{name}", size=(8, 8))
    pack(source, tmp_path / "out", recipe, processes=1, on_leak="report")
    rows = rows_of(tmp_path / "out")
    least = {g: min(r["sha256"] for r in rows if r["group"] == g) for g in ("a", "b")}
    keys = ("sha256", "mask_sha256", "label", "split")
    lines = [json.dumps([*(r[k] for k in keys), least[r["group"]], r["rank"]], separators=(",", ":")) for r in rows]
    text = "\n".join(['[1,{"size":[8,8]},["a","b"]]', *sorted(lines)])
    assert read_manifest(tmp_path / "out").digest == hashlib.sha256(text.encode()).hexdigest()


def test_opaque_keys_leave_no_name_anywhere(tmp_path: Path) -> None:
    source = tmp_path / "clinic"
    for i in range(6):
        picture(source / "ab"[i % 2] / f"SMITH-{i}.png", i)
    put(source / "a" / "JONES.txt", "notes")
    (source / "BAKER").mkdir()
    put(source / "a" / "MILLER.png", b"not an image")
    recipe = Recipe(name="clinic", images=["{class}/{group}-{*}"], opaque_keys=True)
    pack(source, tmp_path / "out", recipe.model_copy(update={"images": ["{class}/{group}-{*}", "{class}/{name}.png"]}),
         processes=1, on_bad="skip")  # fmt: skip
    for file in (tmp_path / "out").iterdir():
        for name in (b"SMITH", b"JONES", b"MILLER", b"BAKER"):
            assert name not in file.read_bytes(), file.name
    assert len({r["group"] for r in rows_of(tmp_path / "out")}) == 1
    assert read_manifest(tmp_path / "out").counts == {"seen": 8, "written": 6, "skipped": 1, "ignored": 1}


def test_statistics_are_those_of_the_training_pixels(tmp_path: Path) -> None:
    source = tmp_path / "cells"
    for i in range(9):
        picture(source / ("train" if i < 6 else "val") / "ab"[i % 2] / f"{i}.png", i, size=(10 + i, 300 + i))
    pack(source, tmp_path / "out", processes=1)
    images = [pixels(i, size=(10 + i, 300 + i)) / 255 for i in range(6)]
    mean = np.mean([x.mean((0, 1)) for x in images], axis=0)
    square = np.mean([(x**2).mean((0, 1)) for x in images], axis=0)
    found = read_manifest(tmp_path / "out").statistics
    assert (found.split, found.images) == ("train", 6)
    np.testing.assert_allclose(found.mean, mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.std, np.sqrt(square - mean**2), rtol=0, atol=1e-12)


def test_the_manifest_is_canonical_and_proves_itself(tmp_path: Path) -> None:
    pack(class_folders(tmp_path / "cells", {"a": 2, "b": 2}), tmp_path / "out", processes=1)
    path = tmp_path / "out" / "manifest.json"
    text = path.read_text()
    assert text == canonical(json.loads(text))
    assert read_manifest(tmp_path / "out").text() == text
    path.write_text(text.replace('"train"', '"TRAIN"'))
    with pytest.raises(DataError, match="damaged"):
        read_manifest(tmp_path / "out")
    values = {**json.loads(text), "format": 2}
    values.pop("self")
    import hashlib

    values["self"] = hashlib.sha256(canonical(values).encode()).hexdigest()
    path.write_text(canonical(values))
    with pytest.raises(MissingError, match="format 2"):
        read_manifest(tmp_path / "out")


def test_reading_a_manifest_imports_nothing_heavy(tmp_path: Path) -> None:
    import subprocess
    import sys

    heavy = {"numpy", "pyarrow", "PIL", "torch", "pydantic"}
    code = f"import sys, medvq.shards.dataset.manifest; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_packing_and_verifying_need_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, medvq.shards.pack.pack, medvq.shards.pack.preview\n"
        "import medvq.shards.dataset.verify, medvq.shards.dataset.summary, medvq.shards.dataset.dataset\n"
        "from medvq.config.recipe import SOURCES\n"
        "print(len(list(SOURCES.values())) < 3 or 'torch' in sys.modules or 'webdataset' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_bad_samples_are_all_listed_and_nothing_is_published(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "cells", {"a": 70, "b": 5})
    put(source / "a" / "cut.jpg", (source / "a" / "a_000.jpg").read_bytes()[:-40])
    put(source / "b" / "page.jpg", "<!DOCTYPE html><html>404</html>")
    put(source / "b" / "zero.png", b"")
    with pytest.raises(BadSamplesError) as e:
        pack(source, tmp_path / "new" / "out", processes=2)
    assert e.value.code == 5
    assert [b.path for b in e.value.bad] == ["a/cut.jpg", "b/page.jpg", "b/zero.png"]
    assert "web page" in str(e.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells"]
    report = pack(source, tmp_path / "out", processes=1, on_bad="skip")
    assert (report.seen, report.written, len(report.skipped)) == (78, 75, 3)
    with pytest.raises(BadSamplesError):
        pack(source, tmp_path / "out", processes=1, on_bad="fail")


def test_progress_is_told_and_ends_at_all(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    source = class_folders(tmp_path / "cells", {"a": 70, "b": 30})
    pack(source, tmp_path / "out", processes=1, progress=lambda *a: told.append(a))
    assert [t for t in told if t[0] == "examine"] == [("examine", n, 100) for n in (32, 64, 96, 100)]
    assert told[-1] == ("write", 100, 100)


def test_stock_webdataset_streams_what_we_write(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    source = course(tmp_path / "wbc", {"train": {"a": 30, "b": 20}}, masks_every=2)
    pack(source, tmp_path / "out", Recipe(shard_samples=20), processes=1)
    shards = sorted(str(p) for p in (tmp_path / "out").glob("*.tar"))
    samples = list(wds.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    rows = rows_of(tmp_path / "out")
    assert [s["__key__"] for s in samples] == [r["key"] for r in rows]
    for sample, row in zip(samples, rows, strict=True):
        assert sample["cls"] == row["label"]
        assert ("mask.png" in sample) == row["has_mask"]
        wanted = np.asarray(Image.open(source / sample["json"]["path"]))
        np.testing.assert_array_equal(sample["png"], wanted)


def test_the_readme_streams(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    source = course(tmp_path / "wbc", {"train": {"a": 30, "b": 20}})
    pack(source, tmp_path / "out", Recipe(shard_samples=20), processes=1)
    text = (Path(__file__).resolve().parents[3] / "shards" / "README.md").read_text()
    names = {"DEST": tmp_path / "out"}
    exec(text.split("```python\n")[1].split("```")[0], names)
    samples = list(names["stream"])
    assert len(samples) == 50
    assert {int(label) for _, label in samples} == {0, 1}
    assert all(image.shape == (16, 20, 3) for image, _ in samples)


def test_names_survive_dots_spaces_unicode_quotes_and_length(tmp_path: Path) -> None:
    names = [
        "a.b.c.png",
        "with space.png",
        "血液.png",
        '"quoted".png',
        "-dash.png",
        "new\nline.png",
        "x" * 251 + ".png",
    ]
    source = tmp_path / "cells"
    for i, name in enumerate(names):
        picture(source / "a" / name, i)
        picture(source / "b" / name, 100 + i)
    pack(source, tmp_path / "out", processes=1)
    assert sorted(by_path(tmp_path / "out")) == sorted(f"{c}/{n}" for c in "ab" for n in names)
    assert len({r["key"] for r in rows_of(tmp_path / "out")}) == 2 * len(names)
    assert all(len(n) <= 100 for n in members(tmp_path / "out"))


@pytest.mark.parametrize(("asked", "meant"), [("jpg", "jpeg"), ("jpeg", "jpeg"), ("npy", "npy"), (None, "auto")])
def test_the_store_option_knows_both_names_of_jpeg(asked: str | None, meant: str) -> None:
    assert settings_of(None, size=None, store=asked, opaque_keys=False).store == meant
