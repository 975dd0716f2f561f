"""WebDataset shards as a source: what stock webdataset reads is packed, and nothing is lost silently."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tars import sample, samples, shard
from trees import by_path, course, encode, facts, member, pixels, put, rows_of, signature

from medvq.config.recipe import LabelTable, Recipe, Splits
from medvq.errors import DataError, NotFoundError, UsageError
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.dataset.verify import verify
from medvq.shards.image.arrays import npy_bytes
from medvq.shards.pack import workspace
from medvq.shards.pack.pack import BadSamplesError, pack
from medvq.shards.pack.preview import explain
from medvq.shards.source.resolve import read_source


def arranged(path: Path, recipe: Recipe | None = None):
    return read_source(path, recipe).arranged


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two splits, class numbers, a mask for some, a patient for all."""
    for split, start, n in (("train", 0, 40), ("val", 40, 12)):
        for part in range(2):
            first = start + part * n // 2
            members = [
                m
                for i in range(first, first + n // 2)
                for m in sample(f"s{i:04d}", i, cls=str(i % 3), mask="seg.png" * (i % 4 == 0), patient=f"p{i // 4}")
            ]
            shard(tmp_path / "shards" / f"{split}-{part:06d}.tar", members)
    return tmp_path / "shards"


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
        m.setattr(workspace.Staging, "publish", lambda self: (_ for _ in ()).throw(Killed))
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: (d / "train-000001.tar").unlink(), "names this shard, and it is missing"),
        (lambda d: shutil.copy(d / "train-000001.tar", d / "train-000009.tar"), "knows no such shard"),
        (lambda d: os.truncate(d / "train-000001.tar", 4096), "4,096 bytes, and"),
    ],
)  # fmt: skip
def test_our_own_dataset_is_packed_whole_or_not_at_all(tmp_path: Path, change, words: str) -> None:
    pack(course(tmp_path / "wbc", {"train": {"a": 9, "b": 9}}), tmp_path / "one", Recipe(shard_samples=6), processes=1)
    change(tmp_path / "one")
    with pytest.raises(BadSamplesError, match=words) as e:
        pack(tmp_path / "one", tmp_path / "two", processes=1)
    assert e.value.code == 5
    damaged = tmp_path / "one" / "manifest.json"
    damaged.write_text(damaged.read_text().replace('"name": "wbc"', '"name": "wcb"'))
    with pytest.raises(DataError, match="manifest is damaged"):
        pack(tmp_path / "one", tmp_path / "two", processes=1)


@pytest.mark.parametrize("asked", ["*.tar", "train-*.tar", "train-{000000..000001}.tar", "{train,val}-00000?.tar"])
def test_globs_and_braces(shards: Path, asked: str) -> None:
    found = read_source(shards / asked)
    assert len(found.arranged.samples) == (40 if asked.startswith("train") else 52)
    assert found.recipe.name == "shards"
    assert {s.path.split("/")[0] for s in found.arranged.samples} <= {p.name for p in shards.iterdir()}


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ("train-{000000..000002}.tar", NotFoundError, "no shard is called so"),
        ("test-*.tar", NotFoundError, "no shard is called so"),
        ("train-{000000.tar", UsageError, "braces of the glob"),
        ("gone.tar", NotFoundError, "no such source"),
        ("*.png", NotFoundError, "no such source"),
    ],
)
def test_a_glob_that_finds_too_little(shards: Path, asked: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        read_source(shards / asked)


def test_splits_come_from_names_of_shards_folders_or_json(tmp_path: Path) -> None:
    put_in = {
        "laion-train-00.tar": sample("a", 1), "x/valid/00.tar": sample("b", 2), "Testing/00.tar": sample("c", 3),
        "train/val-0.tar": sample("d", 4), "train-val.tar": sample("e", 5), "0.tar": sample("f", 6, split="dev"),
    }  # fmt: skip
    for name, members in put_in.items():
        shard(tmp_path / "s" / name, members)
    found = arranged(tmp_path / "s")
    assert {s.id: s.split for s in found.samples} == {
        "a": "train", "b": "val", "c": "test", "d": "val", "e": "train", "f": "val"
    }  # fmt: skip
    assert found.notes == ["2 shards name no split (0.tar); without `split` in the JSON they are train"]


def test_two_splits_of_one_sample_are_told_and_a_recipe_settles_it(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", [*sample("a", 1, split="val"), *sample("b", 2, split="training")])
    found = arranged(tmp_path / "train-0.tar")
    assert [s.id for s in found.samples] == ["b"]
    assert found.bad[0].reason.startswith("two splits: val by its JSON and train by the shard's name")
    for key, splits in (("split", ["val", "train"]), (None, ["train", "train"])):
        settled = arranged(tmp_path / "train-0.tar", Recipe(metadata={"split": key}))
        assert [s.split for s in settled.samples] == splits
    lost = arranged(tmp_path / "train-0.tar", Recipe(metadata={"split": "fold"}))
    assert [b.reason for b in lost.bad] == ["its JSON has no fold"] * 2


@pytest.mark.parametrize(
    ("members", "labels", "classes"),
    [
        ([("cls", "1"), ("cls", "0"), ("cls", "10"), ("cls", "2")], ["1", "0", "10", "2"], ["0", "1", "2", "10"]),
        ([("cls", "eos"), ("cls", "baso\n")], ["eos", "baso"], ["baso", "eos"]),
        ([("json", {"class": "eos"}), ("json", {"label": "baso"})], ["eos", "baso"], ["baso", "eos"]),
        ([("json", {"label": 1}), ("json", {"label": 0})], ["1", "0"], ["0", "1"]),
        ([("json", {"label": 0, "class": "eos"}), ("json", {"label": 1, "class": "baso"})], ["eos", "baso"],
         ["eos", "baso"]),
        ([("both", (0, "eos")), ("cls", "1"), ("both", (1, "baso"))], ["eos", "baso", "baso"], ["eos", "baso"]),
        ([("both", (0, "eos")), ("json", {"class": "baso"})], ["eos", "baso"], ["eos", "baso"]),
        ([("both", (0, "eos")), ("cls", "1")], ["eos", "1"], ["eos", "1"]),
    ],
)  # fmt: skip
def test_labels(tmp_path: Path, members, labels: list[str], classes: list[str]) -> None:
    rows = []
    for i, (kind, value) in enumerate(members):
        cls = value if kind == "cls" else str(value[0]) if kind == "both" else None
        said = {"class": value[1]} if kind == "both" else value if kind == "json" else {}
        rows += sample(f"s{i}", i, cls=cls, **said)
    found = arranged(shard(tmp_path / "x.tar", rows))
    assert [s.label for s in found.samples] == labels
    assert found.classes == classes
    pack(tmp_path / "x.tar", tmp_path / "out", processes=1)
    assert {facts(tmp_path / "out", r)["path"]: r["label"] for r in rows_of(tmp_path / "out")} == {
        f"x.tar/s{i}.jpg": classes.index(label) for i, label in enumerate(labels)
    }


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"cls": "0", "label": 1}], "two labels: 0 by its cls and 1 by label in its JSON"),
        ([{"cls": "0", "class": "x"}, {"cls": "0", "class": "y"}], "the class number 0 means several classes: x, y"),
        (
            [{"cls": "0", "class": "x"}, {"cls": "1", "class": "x"}],
            "the class number 0 means x, as another number does",
        ),
        ([{"cls": ""}], "its cls is empty"),
        ([{"label": [0, 1]}], "label in its JSON is neither text nor a whole number: name another key"),
        ([{"class": True}], "class in its JSON is neither text nor a whole number"),
        ([{"class": "\ud800"}], "class in its JSON is not valid Unicode"),
        ([{"cls": "0", "patient": {"id": 1}}], "patient in its JSON is neither text nor a number"),
    ],
)
def test_labels_that_are_not_clear_are_bad(tmp_path: Path, rows: list[dict], reason: str) -> None:
    members = [m for i, row in enumerate(rows) for m in sample(f"s{i}", i, **row)]
    found = arranged(shard(tmp_path / "x.tar", [*members, *sample("good", 99, cls="7")]))
    assert [b.path for b in found.bad] == [f"x.tar/s{i}.jpg" for i in range(len(rows))]
    assert reason in found.bad[0].reason
    assert len(found.samples) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "\ufeffeos\r\n\r\nbaso\n"),
        ("classes.json", '["eos", "baso"]'),
        ("classes.json", '{"baso": 1, "eos": 0}'),
        ("classes.json", '{"1": "baso", "0": "eos"}'),
    ],
)
def test_class_names_beside_the_shards(tmp_path: Path, name: str, text: str) -> None:
    shard(tmp_path / "s" / "x.tar", [*samples(4), *sample("more", 9, cls="2"), *sample("named", 10, cls="eos")])
    put(tmp_path / "s" / name, text)
    put(tmp_path / "s" / "readme.md", "hello")
    found = arranged(tmp_path / "s")
    assert [s.label for s in found.samples] == ["eos", "eos", "baso", "eos", "baso"]
    assert [(b.path, b.reason) for b in found.bad] == [
        ("x.tar/more.jpg", f"the class number 2 has no name in {name} (2 names)")
    ]
    assert [(i.path, i.reason) for i in found.ignored] == [("readme.md", "not an image")]
    assert found.classes == ["eos", "baso"]
    renamed = arranged(tmp_path / "s", Recipe(classes={"basophil": ["baso"], "eosinophil": ["eos"]}))
    assert Counter(s.label for s in renamed.samples) == {"eosinophil": 3, "basophil": 2}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("classes.txt", "a\na\n", "lists no class, or one twice"),
        ("classes.json", '{"a": 1}', "must be 0, 1, 2"),
        ("classes.json", '{"a": "b"}', "cannot be read"),
        ("classes.json", "[1]", "give a list"),
        ("classes.json", "[", "cannot be read"),
    ],
)
def test_a_file_of_class_names_that_is_none(tmp_path: Path, name: str, text: str, words: str) -> None:
    shard(tmp_path / "s" / "x.tar", samples(4))
    put(tmp_path / "s" / name, text)
    with pytest.raises(DataError, match=words):
        read_source(tmp_path / "s")


def test_a_recipe_names_the_numbers(tmp_path: Path) -> None:
    shard(tmp_path / "x.tar", samples(6, classes=3))
    assert Counter(s.label for s in arranged(tmp_path / "x.tar", Recipe(classes=["x", "y", "z"])).samples) == {
        "x": 2, "y": 2, "z": 2
    }  # fmt: skip
    found = arranged(tmp_path / "x.tar", Recipe(classes={"y": ["1"], "x": ["0"]}))
    assert Counter(s.label for s in found.samples) == {"x": 2, "y": 2}
    assert [b.reason[:19] for b in found.bad] == ["unknown class '2' ("] * 2


def test_a_recipe_names_the_keys_of_the_json(tmp_path: Path) -> None:
    rows = [m for i in range(6) for m in sample(f"s{i}", i, cls="0", dx="ab"[i % 2], patient_id=i // 2, fold=i % 3)]
    shard(tmp_path / "x.tar", rows)
    plain = arranged(tmp_path / "x.tar")
    assert {s.label for s in plain.samples} == {"0"}
    assert plain.notes == [
        "the samples' JSON has patient_id; if it is the group, say so in a recipe: `metadata: {group: patient_id}`"
    ]
    recipe = Recipe(
        metadata={"class": "dx", "group": "patient_id", "split": "fold", "id": "fold"},
        splits=Splits(names={"0": "train", "1": "val", "2": "test"}),
    )
    found = arranged(tmp_path / "x.tar", recipe)
    assert [(s.label, s.group, s.split, s.id) for s in found.samples] == [
        ("ab"[i % 2], str(i // 2), ("train", "val", "test")[i % 3], str(i % 3)) for i in range(6)
    ]
    none = arranged(tmp_path / "x.tar", Recipe(metadata={"group": "patent_id"}))
    assert none.notes == ["6 of 6 samples have no group, so that no leak is seen between splits by them"]


def test_group_and_patient_that_differ_are_not_taken(tmp_path: Path) -> None:
    shard(tmp_path / "x.tar", [*sample("a", 1, patient="p1", group="g1"), *sample("b", 2, patient="p2")])
    found = arranged(tmp_path / "x.tar")
    assert {s.group for s in found.samples} == {None}
    assert "group and patient in the samples' JSON differ" in found.notes[0]
    assert [s.group for s in arranged(tmp_path / "x.tar", Recipe(metadata={"group": "patient"})).samples] == [
        "p1",
        "p2",
    ]


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


def test_folders_within_a_shard_are_proposed_as_classes(tmp_path: Path) -> None:
    shard(tmp_path / "x.tar", [m for i in range(4) for m in sample(f"{'ab'[i % 2]}/{i}", i)])
    found = arranged(tmp_path / "x.tar")
    assert {s.label for s in found.samples} == {None}
    assert '`images: "{*}.tar/{class}/{name}"`' in found.notes[0]
    named = arranged(tmp_path / "x.tar", Recipe(images=["{*}.tar/{class}/{name}"]))
    assert Counter(s.label for s in named.samples) == {"a": 2, "b": 2}


def test_a_mask_beside_its_image_is_no_image(tmp_path: Path) -> None:
    rows = [*sample("a", 1, cls="0"), *sample("a_mask", 2, ext="png"), *sample("b_mask", 3, cls="1")]
    found = arranged(shard(tmp_path / "x.tar", rows))
    assert {s.path: s.mask.path if s.mask else None for s in found.samples} == {
        "x.tar/a.jpg": "x.tar/a_mask.png", "x.tar/b_mask.jpg": None
    }  # fmt: skip


def test_a_table_beside_the_shards_tells_labels_and_overrules_splits(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "train-0.tar", [m for i in range(4) for m in sample(f"s{i}", i)])
    put(
        tmp_path / "s" / "t.csv", "id,dx,fold\n" + "".join(f"s{i},{'ab'[i % 2]},{'test' * (i > 2)}\n" for i in range(4))
    )
    recipe = Recipe(tables=[LabelTable(file="t.csv", id="id", label="dx", split="fold")])
    found = arranged(tmp_path / "s", recipe)
    assert [(s.label, s.split) for s in found.samples] == [
        ("a", "train"),
        ("b", "train"),
        ("a", "train"),
        ("b", "test"),
    ]
    assert found.ignored == []


def test_a_hostile_shard(tmp_path: Path) -> None:
    """Every member of it is accounted for, and only the good sample enters."""
    link = tarfile.TarInfo()
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    good = encode(pixels(1))
    bad = {
        "link.png": (link, "a link"),
        "/abs.png": (good, "its name leads out of the shard"),
        "../up.png": (good, "its name leads out of the shard"),
        "two.png": (good, "its key has several images: two.png, two.jpg"),
        "two.jpg": (encode(pixels(2), "JPEG"), "its key has several images: two.png, two.jpg"),
        "masks.png": (good, "its key has several masks: masks.mask.png, masks.seg.png"),
        "json.png": (good, "its JSON is damaged"),
        "deep.png": (good, "its JSON is damaged"),
        "binary.png": (good, "its cls is not text"),
        "cut.jpg": (encode(pixels(3), "JPEG")[:-30], ""),
        "empty.jpg": (b"", "the file is empty"),
        "page.jpg": (b"<html>not found</html>", "web page"),
    }
    aside = [
        ("masks.mask.png", good), ("masks.seg.png", good), ("json.json", "{"), ("deep.json", "[" * 100_000),
        ("binary.cls", b"\xff"),
    ]  # fmt: skip
    ignored = {
        "readme": "no suffix", ".hidden.png": "hidden", "a/._b.png": "hidden", "pipe.txt": "not a regular file",
        "__MACOSX/x.png": "left by a file manager", "__meta__.png": "metadata of the shard",
        "scan.dcm": "its sample has no image", "lone.cls": "its sample has no image",
        "lone2.mask.png": "a mask without an image",
    }  # fmt: skip
    pipe = tarfile.TarInfo()
    pipe.type = tarfile.FIFOTYPE
    rest = [(name, pipe if name == "pipe.txt" else good) for name in ignored]
    shard(tmp_path / "x.tar", [*((n, d) for n, (d, _) in bad.items()), *aside, *rest, *sample("good", 99)])
    with pytest.raises(BadSamplesError) as e:
        pack(tmp_path / "x.tar", tmp_path / "out", processes=1)
    reasons = {b.path.removeprefix("x.tar/"): b.reason for b in e.value.bad}
    assert sorted(reasons) == sorted(bad)
    assert all(words in reasons[name] for name, (_, words) in bad.items())
    report = pack(tmp_path / "x.tar", tmp_path / "out", processes=2, on_bad="skip")
    assert (report.seen, report.written, report.ignored) == (1 + len(bad) + len(ignored), 1, len(ignored))
    assert len(report.skipped) == len(bad)
    told = {row["path"].removeprefix("x.tar/"): row["reason"] for row in read_manifest(tmp_path / "out").ignored}
    assert all(words in told[name] for name, words in ignored.items())
    assert list(by_path(tmp_path / "out")) == ["x.tar/good.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x.tar"], "nothing was written elsewhere"


def test_two_members_of_one_name_are_bad(tmp_path: Path) -> None:
    rows = [*sample("a", 1, cls="0"), *sample("b", 2, cls="1"), *sample("a", 3, cls="1"), *sample("c", 4, cls="1")]
    found = arranged(shard(tmp_path / "x.tar", rows))
    assert [(b.path, b.reason) for b in found.bad] == [
        ("x.tar/a.jpg", "several members of the shard are called a.jpg")
    ] * 2
    twice = [*sample("a", 1, cls="0"), ("a.cls", "1"), *sample("c", 4, cls="1")]
    assert [b.reason for b in arranged(shard(tmp_path / "y.tar", twice)).bad] == [
        "several members of the shard are called a.cls"
    ]
    with_patterns = arranged(tmp_path / "x.tar", Recipe(images=["{*}/{name}"]))
    assert len(with_patterns.bad) == 2


def test_one_key_in_two_shards_is_two_samples(tmp_path: Path) -> None:
    for i in range(2):
        shard(tmp_path / "s" / f"{i}.tar", sample("a", i, cls=str(i)))
    report = pack(tmp_path / "s", tmp_path / "out", processes=1)
    assert report.written == 2
    assert sorted(by_path(tmp_path / "out")) == ["0.tar/a.jpg", "1.tar/a.jpg"]


@pytest.mark.parametrize("kind", ["cut", "between", "header", "text", "gzip"])
def test_a_damaged_shard_is_an_error_or_recorded(tmp_path: Path, kind: str) -> None:
    whole = shard(tmp_path / "s" / "b.tar", samples(20)).read_bytes()
    shard(tmp_path / "s" / "a.tar", samples(5, first=100))
    with tarfile.open(tmp_path / "s" / "b.tar") as tar:
        tenth = tar.getmember("s0010.cls").offset
    changed = {
        "cut": whole[: tenth - 700], "between": whole[:tenth], "text": b"<html>", "gzip": gzip.compress(whole),
        "header": whole[:tenth] + b"?" * 512 + whole[tenth + 512 :],
    }[kind]  # fmt: skip
    put(tmp_path / "s" / "b.tar", changed)
    with pytest.raises(BadSamplesError, match=r"b\.tar: it is|b\.tar: the header") as e:
        pack(tmp_path / "s", tmp_path / "out", processes=1)
    assert e.value.code == 5
    report = pack(tmp_path / "s", tmp_path / "out", processes=1, on_bad="skip")
    assert report.seen == report.written + len(report.skipped) + report.ignored
    assert report.written == {"text": 5, "gzip": 5}.get(kind, 15)
    last = {"cut": [], "between": ["b.tar/s0010.jpg"], "header": ["b.tar/s0010.jpg"]}.get(kind, [])
    assert [row["path"] for row in report.skipped] == ["b.tar", *last]
    if last:
        assert "may lack members" in report.skipped[1]["reason"]


def test_compressed_shards_are_refused_with_what_to_do(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "a.tar", samples(2))
    (tmp_path / "s" / "a.tar").rename(tmp_path / "s" / "a.tar.gz")
    for path in (tmp_path / "s", tmp_path / "s" / "a.tar.gz"):
        with pytest.raises(UsageError, match=r"compressed, such as a\.tar\.gz") as e:
            read_source(path)
        assert "unpack" in str(e.value.hint)


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


def test_a_shard_that_changes_while_it_is_read_is_told(shards: Path, tmp_path: Path) -> None:
    found = read_source(shards)
    entry = found.arranged.samples[0]
    assert found.source.read(entry.path, entry.size)
    found.source.close()
    shard(shards / entry.path.split("/")[0], samples(3, first=500))
    assert found.source.identify(entry.path) == "its shard changed while it was read"


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
