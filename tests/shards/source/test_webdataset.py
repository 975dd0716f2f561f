"""WebDataset shards as a source: what stock webdataset reads is packed, and nothing is lost silently."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tars import sample, samples, shard
from trees import by_path, course, encode, member, pixels, put, rows_of, signature

from medvq.config.recipe import Recipe
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.dataset.verify import verify
from medvq.shards.image.arrays import npy_bytes
from medvq.shards.pack import workspace
from medvq.shards.pack.pack import pack
from medvq.shards.pack.preview import explain
from medvq.shards.source.resolve import read_source


def arranged(path: Path, recipe: Recipe | None = None):
    return read_source(path, recipe).arranged


def test_what_stock_webdataset_reads_is_packed(shards: Path, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    report = pack(shards, tmp_path / "out", processes=2)
    assert (report.seen, report.written, report.ignored, report.skipped) == (52, 52, 0, [])
    assert report.splits == {"train": 40, "val": 12}
    assert verify(tmp_path / "out", deep=True) == []
    rows = by_path(tmp_path / "out")
    stock = list(wds.WebDataset(sorted(map(str, shards.glob("*.tar"))), shardshuffle=False))
    assert len(stock) == 52
    for found in stock:
        row = rows[f"{Path(found['__url__']).name}/{found['__key__']}.jpg"]
        assert (row["label"], row["split"]) == (int(found["cls"]), Path(found["__url__"]).name.split("-")[0])
        assert row["group"] == json.loads(found["json"])["patient"]
        assert member(tmp_path / "out", row) == found["jpg"]
        assert row["has_mask"] == ("seg.png" in found)
        if row["has_mask"]:
            assert member(tmp_path / "out", row, "mask") == found["seg.png"]


def test_any_number_of_processes_gives_the_same_bytes_and_a_stop_is_made_good(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    recipe = Recipe(shard_samples=9, size=(8, 8))
    pack(shards, tmp_path / "one", recipe, processes=1)
    pack(shards, tmp_path / "three", recipe, processes=3)
    assert signature(tmp_path / "one") == signature(tmp_path / "three")
    with monkeypatch.context() as m:
        m.setattr(workspace.Workspace, "publish", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            pack(shards, tmp_path / "again", recipe, processes=1)
    monkeypatch.setattr("medvq.shards.pack.examine.decode", lambda *_: pytest.fail("decoded again"))
    pack(shards, tmp_path / "again", recipe, processes=2)
    assert signature(tmp_path / "again") == signature(tmp_path / "one")
    assert pack(shards, tmp_path / "again", recipe, processes=1).unchanged


@pytest.mark.parametrize("step", [0, 1, 3, 4, 5])
def test_stopped_at_any_step_and_started_again_ends_the_same(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    class Killed(BaseException):
        pass

    recipe, done, rename = Recipe(shard_samples=30, size=(8, 8)), 0, os.replace

    def replace(a: str, b: str) -> None:
        nonlocal done
        if done == step:
            raise Killed
        done += 1
        rename(a, b)

    pack(shards, tmp_path / "whole", recipe, processes=1)
    with monkeypatch.context() as m:
        m.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            pack(shards, tmp_path / "out", recipe, processes=1)
    pack(shards, tmp_path / "out", recipe, processes=2)
    assert signature(tmp_path / "out") == signature(tmp_path / "whole")


def test_our_own_dataset_is_packed_again_with_everything_it_has(tmp_path: Path) -> None:
    source = course(tmp_path / "wbc", {"train": {"b": 20, "a": 13}, "test_hard": {"a": 5, "b": 5}})
    recipe = Recipe(
        images=["{split}/data/{class}/{name}"], masks="{split}/mask/{class}/{name}", classes=["b", "a"],
        group=r"/([ab]_\d\d)\d", shard_samples=12, licence="CC0", source="a lab", cite="us",
    )  # fmt: skip
    first = pack(source, tmp_path / "one", recipe, processes=1, on_leak="report")
    second = pack(tmp_path / "one", tmp_path / "two", Recipe(shard_samples=12, on_leak="report"), processes=1)
    assert second.digest == first.digest
    assert second.splits == first.splits == {"train": 33, "test_hard": 10}
    ours, theirs = read_manifest(tmp_path / "one"), read_manifest(tmp_path / "two")
    assert (theirs.name, theirs.classes, theirs.licence, theirs.source, theirs.cite) == (
        "wbc", ["b", "a"], "CC0", "a lab", "us"
    )  # fmt: skip
    assert theirs.splits == ours.splits
    assert theirs.layout.endswith("of the medvq dataset wbc")
    columns = ("key", "split", "label", "group", "sha256", "mask_sha256", "rank", "width", "height")
    assert [[r[c] for c in columns] for r in rows_of(tmp_path / "two")] == [
        [r[c] for c in columns] for r in rows_of(tmp_path / "one")
    ]
    alone = arranged(tmp_path / "one" / "train-000001.tar")
    assert (len(alone.samples), alone.classes) == (12, ["b", "a"])
    (tmp_path / "moved").mkdir()
    shutil.copy(tmp_path / "one" / "train-000001.tar", tmp_path / "moved")
    assert arranged(tmp_path / "moved").classes == ["b", "a"], "names and numbers stand in each sample"


@pytest.mark.parametrize("asked", ["*.tar", "train-*.tar", "train-{000000..000001}.tar", "{train,val}-00000?.tar"])
def test_globs_and_braces(shards: Path, asked: str) -> None:
    found = read_source(shards / asked)
    assert len(found.arranged.samples) == (40 if asked.startswith("train") else 52)
    assert found.recipe.name == "shards"
    assert {s.path.split("/")[0] for s in found.arranged.samples} <= {p.name for p in shards.iterdir()}


def test_kinds_of_images_and_which_member_is_the_image(tmp_path: Path) -> None:
    array = npy_bytes(pixels(5))
    rows = [
        *sample("a", 1, ext="JPEG"), *sample("b", 2, ext="tif"), *sample("c", 3, ext="webp"), ("d.NPY", array),
        ("e.jpg", encode(pixels(6), "JPEG")), ("e.depth.png", encode(pixels(7))), ("e.txt", "caption"),
        ("f.rgb.png", encode(pixels(8))), ("g/h.1.png", encode(pixels(9))),
    ]  # fmt: skip
    shard(tmp_path / "x.tar", rows)
    found = arranged(tmp_path / "x.tar")
    assert [s.path for s in found.samples] == [
        f"x.tar/{n}" for n in ("a.JPEG", "b.tif", "c.webp", "d.NPY", "e.jpg", "f.rgb.png", "g/h.1.png")
    ]
    assert "members of samples that are not read: 1 .txt, 1 .png" in found.notes
    report = pack(tmp_path / "x.tar", tmp_path / "out", processes=1)
    assert (report.seen, report.written) == (7, 7)
    stored = member(tmp_path / "out", by_path(tmp_path / "out")["x.tar/d.NPY"])
    np.testing.assert_array_equal(np.load(io.BytesIO(stored)), pixels(5))


def test_patterns_of_a_recipe_choose_members(tmp_path: Path) -> None:
    rows = []
    for i in range(4):
        for name in ("rgb", "depth"):
            rows.append((f"{'xy'[i % 2]}/s{i}.{name}.png", encode(pixels(10 * i + len(name)))))
        rows.append((f"{'xy'[i % 2]}/s{i}.lesion.png", encode(pixels(i, channels=1))))
    shard(tmp_path / "x.tar", rows)
    several = arranged(tmp_path / "x.tar")
    assert [b.reason.split(":")[0] for b in several.bad] == ["its key has several images"] * 12
    recipe = Recipe(images=["{*}.tar/{class}/{id}.rgb.png"], masks="{*}.tar/{class}/{id}.lesion.png")
    found = arranged(tmp_path / "x.tar", recipe)
    assert [(s.path, s.label, s.mask.path if s.mask else None) for s in found.samples] == [
        (f"x.tar/{c}/s{i}.rgb.png", c, f"x.tar/{c}/s{i}.lesion.png")
        for i, c in ((0, "x"), (2, "x"), (1, "y"), (3, "y"))
    ]
    assert [i.path.split(".")[-2] for i in found.ignored] == ["depth"] * 4


def test_a_mask_beside_its_image_is_no_image(tmp_path: Path) -> None:
    rows = [*sample("a", 1, cls="0"), *sample("a_mask", 2, ext="png"), *sample("b_mask", 3, cls="1")]
    found = arranged(shard(tmp_path / "x.tar", rows))
    assert {s.path: s.mask.path if s.mask else None for s in found.samples} == {
        "x.tar/a.jpg": "x.tar/a_mask.png", "x.tar/b_mask.jpg": None
    }  # fmt: skip


def test_a_folder_with_images_stays_a_folder_of_images(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "a.tar", samples(2))
    put(tmp_path / "s" / "b.png", encode(pixels(5)))
    found = read_source(tmp_path / "s")
    assert [s.path for s in found.arranged.samples] == ["b.png"]
    assert [i.path for i in found.arranged.ignored] == ["a.tar"]
    named = read_source(tmp_path / "s", Recipe(container="webdataset"))
    assert len(named.arranged.samples) == 2
    assert [(i.path, i.reason) for i in named.arranged.ignored] == [("b.png", "an image that is not in a shard")]


def test_the_dataset_may_be_written_beside_its_shards(shards: Path) -> None:
    pack(shards, shards / "out", processes=1)
    assert pack(shards, shards / "out", processes=1).unchanged
    assert read_manifest(shards / "out").counts["written"] == 52


def test_globs_of_a_recipe_leave_members_out(shards: Path) -> None:
    found = arranged(shards, Recipe(ignore=["*/s000?.*", "*.xyz"]))
    assert len(found.samples) == 42
    assert {i.reason for i in found.ignored} == {"the recipe ignores */s000?.*"}
    assert "the recipe ignores *.xyz, and there is no such file" in found.notes
    assert not any("s000?" in note for note in found.notes)


def test_the_dry_run_says_what_was_understood(shards: Path) -> None:
    text = explain(shards)
    assert "layout     WebDataset shards (4 tar files)" in text
    assert "split      train: 40 samples, 10 masks, 10 groups" in text


def test_keys_follow_webdatasets_rule() -> None:
    wds = pytest.importorskip("webdataset")
    from medvq.shards.source.tar_samples import key_and_suffix

    for name in ("a.jpg", "a.mask.png", "d/e.f/a.b.c", "d.e/a", "a", ".a", "d/.a", "a.", "A.JPG", "x\ny.png", "é.ü"):
        key, suffix = wds.tariterators.base_plus_ext(name)
        assert key_and_suffix(name) == (None if key is None else (key, suffix.lower())), name
