"""What tar shards say of their samples: labels, class names, splits and groups, and where a recipe decides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tars import sample, samples, shard
from trees import facts, put, rows_of

from medvq.config.recipe import LabelTable, Recipe, Splits
from medvq.shards.pack.pack import pack
from medvq.shards.source.resolve import read_source


def arranged(path: Path, recipe: Recipe | None = None):
    return read_source(path, recipe).arranged


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
    assert none.notes == ["6 of 6 samples have no group: a leak between splits cannot be seen by them"]


def test_group_and_patient_that_differ_are_not_taken(tmp_path: Path) -> None:
    shard(tmp_path / "x.tar", [*sample("a", 1, patient="p1", group="g1"), *sample("b", 2, patient="p2")])
    found = arranged(tmp_path / "x.tar")
    assert {s.group for s in found.samples} == {None}
    assert "group and patient in the samples' JSON differ" in found.notes[0]
    assert [s.group for s in arranged(tmp_path / "x.tar", Recipe(metadata={"group": "patient"})).samples] == [
        "p1",
        "p2",
    ]


def test_folders_within_a_shard_are_proposed_as_classes(tmp_path: Path) -> None:
    shard(tmp_path / "x.tar", [m for i in range(4) for m in sample(f"{'ab'[i % 2]}/{i}", i)])
    found = arranged(tmp_path / "x.tar")
    assert {s.label for s in found.samples} == {None}
    assert '`images: "{*}.tar/{class}/{name}"`' in found.notes[0]
    named = arranged(tmp_path / "x.tar", Recipe(images=["{*}.tar/{class}/{name}"]))
    assert Counter(s.label for s in named.samples) == {"a": 2, "b": 2}


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
