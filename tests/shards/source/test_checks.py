"""What a recipe asks for and the source does not have is an error or a note, never silence."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from trees import class_folders, course, picture, put

from medvq.config.recipe import LabelTable, Made, Recipe, Splits
from medvq.errors import UsageError
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.pack.pack import pack
from medvq.shards.sampling.split import _least_share, _rounded, check_shares
from medvq.shards.source.alike import group_key
from medvq.shards.source.resolve import read_source


def split_folders(root: Path, splits: str = "train val test") -> Path:
    for i, split in enumerate(splits.split()):
        class_folders(root / split, {"a": 4, "b": 4}, first=100 * i)
    return root


@pytest.mark.parametrize(
    ("splits", "words", "hint"),
    [
        ({"keep": ["train", "tset"]}, "keeps tset, which is no split", "test"),
        ({"keep": ["Training"]}, "keeps Training", "train"),
        ({"make": {"dev": {"of": "trian", "share": 0.5}}}, "makes dev of trian, which is no split of", "train"),
        ({"make": {"dev": {"of": "val", "share": 0.5}}, "keep": ["train"]}, "makes dev of val, .* that is kept", ""),
        ({"names": {"tets": "test"}}, "renames tets, which is no split", "test"),
    ],
)
def test_a_split_that_is_not_there_is_refused(tmp_path: Path, splits: dict, words: str, hint: str) -> None:
    recipe = Recipe(images=["{split}/{class}/{name}"], splits=Splits.model_validate(splits))
    with pytest.raises(UsageError, match=words) as e:
        read_source(split_folders(tmp_path / "s"), recipe)
    assert not hint or e.value.hint == f"did you mean {hint}?"


def test_splits_of_arrays_are_checked_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=np.zeros((4, 8, 8), np.uint8), val_images=np.ones((2, 8, 8), np.uint8))
    with pytest.raises(UsageError, match="keeps vla"):
        read_source(tmp_path / "x.npz", Recipe(splits=Splits(keep=["train", "vla"])))
    assert len(read_source(tmp_path / "x.npz", Recipe(splits=Splits(keep=["val"]))).arranged.samples) == 2


def test_splits_that_are_made_or_named_in_a_table_only_are_there(tmp_path: Path) -> None:
    class_folders(tmp_path / "s", {"a": 20})
    put(tmp_path / "t.csv", "f,fold\n" + "".join(f"a_{i:03d},F{i % 2}\n" for i in range(20)) + "gone,F7\n")
    table = LabelTable(file="../t.csv", id="f", split="fold")
    splits = Splits.model_validate(
        {"names": {"F0": "train", "f7": "test"}, "make": {"val": 0.2}, "keep": ["train", "val"]}
    )
    recipe = Recipe(images=["{class}/{name}"], tables=[table], splits=splits)
    assert {s.split for s in read_source(tmp_path / "s", recipe).arranged.samples} == {"train"}
    report = pack(tmp_path / "s", tmp_path / "out", recipe, processes=1)
    assert report.splits == {"train": 8, "val": 2}


def test_lists_that_overrule_a_folder_leave_its_name_known(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / "s" / "trainval" / f"{name}.png", ord(name))
    put(tmp_path / "s" / "train.txt", "a\nb\n")
    splits = Splits(lists={"train": "train.txt"}, names={"trainval": "train"})
    assert len(read_source(tmp_path / "s", Recipe(images=["{split}/{name}"], splits=splits)).arranged.samples) == 2


def test_a_share_that_takes_nothing_is_refused_with_one_that_works(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "s", {"a": 20, "b": 12})
    with pytest.raises(UsageError, match=r"val would be empty: 0\.01 of train") as e:
        read_source(source, Recipe(splits=Splits(make={"val": Made(share=0.01)})))
    assert "0.025 or more" in str(e.value.hint)
    assert pack(
        source, tmp_path / "out", Recipe(splits=Splits(make={"val": Made(share=0.025)})), processes=1
    ).splits == {
        "train": 31,
        "val": 1,
    }


def test_the_smallest_share_takes_one() -> None:
    assert all(_rounded(n, _least_share(n)) == 1 for n in range(2, 3000))
    assert all(_least_share(n) < 1.2 * 0.5 / n for n in range(2, 3000))


def test_small_classes_are_no_fault_of_the_recipe() -> None:
    make = {"val": Made(share=0.1), "test": Made(share=0.5)}
    assert check_shares(make, [("train", "a"), ("train", "b"), ("train", "b")]) == [
        "the split val stays empty: the largest class of train has only 2"
    ]


def test_a_split_that_no_group_fits_is_refused(tmp_path: Path) -> None:
    for i in range(12):
        picture(tmp_path / "s" / "a" / f"P1_{i}.png", i)
    recipe = Recipe(images=["{class}/{group}_{id}.png"], splits=Splits(make={"val": Made(share=0.2)}))
    with pytest.raises(UsageError, match="val came out empty") as e:
        pack(tmp_path / "s", tmp_path / "out", recipe, processes=1)
    assert e.value.hint == "all 12 samples of train are one group P1, which stays together: it cannot be divided"
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    for i in range(6):
        picture(tmp_path / "s" / "a" / f"P2_{i}.png", 50 + i)
    recipe = recipe.model_copy(update={"splits": Splits(make={"val": Made(share=0.05)})})
    with pytest.raises(UsageError, match="18 samples are 2 groups, which stay together: give a share of") as e:
        pack(tmp_path / "s", tmp_path / "out", recipe, processes=1)
    share = float(str(e.value.hint).rpartition(" ")[2])
    recipe = recipe.model_copy(update={"splits": Splits(make={"val": Made(share=share)})})
    assert pack(tmp_path / "s", tmp_path / "out", recipe, processes=1).splits["val"] > 0


def test_a_glob_that_matches_nothing_is_told(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "s", {"a": 2})
    put(source / "a" / "x.txt", "")
    found = read_source(source, Recipe(ignore=["nothing/*", "*.txt", "a/*.txt"])).arranged
    assert found.notes == ["the recipe ignores nothing/*, and there is no such file"]


def test_a_mask_pattern_that_fits_no_file_is_refused(tmp_path: Path) -> None:
    source = course(tmp_path / "s", {"train": {"a": 4, "b": 4}, "val": {"a": 1}})
    images, masks = "{split}/data/{class}/{name}", "{split}/mask/{class}/{name}"
    with pytest.raises(UsageError, match="no file is a mask by the recipe's pattern") as e:
        read_source(source, Recipe(images=[images], masks=masks.replace("mask", "masks")))
    assert "{split}/masks/{class}" in str(e.value)
    assert "the nearest is train/mask/a/a_000.png" in str(e.value.hint)
    with pytest.raises(UsageError, match="no file is a mask"):
        read_source(source, Recipe(masks="{split}/{class}/masks/{name}"))
    found = read_source(source, Recipe(images=[images], masks=masks)).arranged
    assert sum(s.mask is not None for s in found.samples) == 4


def test_a_class_that_is_not_in_train_is_told(tmp_path: Path) -> None:
    for i, name in enumerate(
        ["train/neutrophil", "train/monocyte", "test/neutrophils", "test/monocyte", "val/neutrophils"]
    ):
        picture(tmp_path / "s" / name / "0.png", i)
    note = "without a training sample: class neutrophils (1 in test, 1 in val; did you mean neutrophil?)"
    assert note in read_source(tmp_path / "s").arranged.notes
    pack(tmp_path / "s", tmp_path / "out", Recipe(opaque_keys=True), processes=1)
    assert note in read_manifest(tmp_path / "out").notes
    only_test = read_source(tmp_path / "s", Recipe(images=["{split}/{class}/{name}"], splits=Splits(keep=["test"])))
    assert only_test.arranged.notes == []


def test_a_class_that_making_splits_takes_from_train_is_told(tmp_path: Path) -> None:
    for i in range(12):
        picture(tmp_path / "s" / "a" / f"P{i % 6}_{i}.png", i)
        picture(tmp_path / "s" / "b" / f"Q_{i}.png", 100 + i)
    recipe = Recipe(images=["{class}/{group}_{id}.png"], splits=Splits(make={"test": Made(share=0.6)}))
    pack(tmp_path / "s", tmp_path / "out", recipe, processes=1)
    assert "without a training sample: class b (12 in test)" in read_manifest(tmp_path / "out").notes


@pytest.mark.parametrize("opaque", [False, True])
def test_samples_without_the_group_that_was_asked_for_are_told(tmp_path: Path, opaque: bool) -> None:
    class_folders(tmp_path / "s", {"a": 4, "b": 4})
    put(
        tmp_path / "t.csv",
        "f,p\n" + "".join(f"{c}_{i:03d},{'P1' if i == 0 else 'NA'}\n" for c in "ab" for i in range(4)),
    )
    put(tmp_path / "u.csv", (tmp_path / "t.csv").read_text().replace("NA", ""))
    note = "6 of 8 samples have no group: a leak between splits cannot be seen by them"
    for table, notes in (("../t.csv", []), ("../u.csv", [note])):
        recipe = Recipe(
            images=["{class}/{name}"], tables=[LabelTable(file=table, id="f", group="p")], opaque_keys=opaque
        )
        out = tmp_path / table[3]
        pack(tmp_path / "s", out, recipe, processes=1)
        assert read_manifest(out).notes == notes


def test_no_group_is_no_matter_where_none_was_asked_for(tmp_path: Path) -> None:
    assert read_source(class_folders(tmp_path / "s", {"a": 4, "b": 4})).arranged.notes == []


def test_class_folders_that_differ_only_in_blanks_are_refused(tmp_path: Path) -> None:
    for i, name in enumerate(["b", "b ", "big  cell", "Big cell", "c"]):
        picture(tmp_path / "s" / name / "0.png", i)
    with pytest.raises(UsageError, match='only in case or in blanks: Big cell and big  cell; b and "b "') as e:
        read_source(tmp_path / "s")
    recipe = Recipe.model_validate(yaml.safe_load(str(e.value.hint).splitlines()[1]))
    found = read_source(tmp_path / "s", recipe).arranged
    assert (len(found.samples), found.classes, found.bad) == (5, ["Big cell", "b", "c"], [])


@pytest.mark.parametrize(
    ("name", "twin"), [("cat", "cat\u200b"), ("cat", "c\u0430t"), ("cat", "\uff43at"), ("Cat", "cat")]
)
def test_classes_that_look_the_same_are_refused_with_a_line_that_works(tmp_path: Path, name: str, twin: str) -> None:
    class_folders(tmp_path / "s", {name: 2, twin: 2, "dog": 2, "a: b": 1})
    with pytest.raises(UsageError, match="classes that differ only in") as e:
        read_source(tmp_path / "s")
    assert e.value.error.isascii(), "invisible characters are shown as escapes"
    recipe = Recipe.model_validate(yaml.safe_load(str(e.value.hint).splitlines()[1]))
    found = read_source(tmp_path / "s", recipe).arranged
    assert (len(found.samples), found.bad, len(found.classes)) == (7, [], 3)


def test_the_exact_spelling_of_a_class_counts_first(tmp_path: Path) -> None:
    class_folders(tmp_path / "s", {"T2 weighted": 3, "T2-weighted": 2, "T1": 1})
    classes = {"one": ["T1", "T2 weighted"], "two": ["T2-weighted"]}
    found = read_source(tmp_path / "s", Recipe(classes=classes)).arranged
    assert Counter(s.label for s in found.samples) == {"one": 4, "two": 2}
    class_folders(tmp_path / "s", {"t2_weighted": 1})
    with pytest.raises(UsageError, match=r"t2_weighted .1 images.* is it one or two"):
        read_source(tmp_path / "s", Recipe(classes=classes))
    with pytest.raises(ValueError, match="'T1' is listed twice, for one and two"):
        Recipe(classes={"one": ["T1"], "two": ["T1"]})


def test_a_dropped_class_that_is_not_there_is_told(tmp_path: Path) -> None:
    class_folders(tmp_path / "s", {"a": 2, "b": 2})
    found = read_source(tmp_path / "s", Recipe(drop_classes=["a", "bb"])).arranged
    assert ([s.label for s in found.samples], found.classes) == (["b", "b"], ["b"])
    assert found.notes == ["the recipe drops class bb, and there is no such class"]


def test_unknown_classes_are_no_bad_images(tmp_path: Path) -> None:
    class_folders(tmp_path / "s", {"platelet": 2, "Platelet": 2, "monocyte": 2})
    with pytest.raises(UsageError, match="lack 1 classes of the source: monocyte"):
        pack(tmp_path / "s", tmp_path / "out", Recipe(classes={"platelet": ["Platelet"]}), on_bad="skip", processes=1)


def test_patients_written_in_several_ways_are_told_and_united(tmp_path: Path) -> None:
    rows = []
    for i in range(12):
        picture(tmp_path / "s" / f"x{i:02d}.png", i)
        rows.append(f"x{i:02d},{'ab'[i % 2]},{['%d', '%03d', '%d.0'][i % 3] % (i // 3 + 1)}")
    put(tmp_path / "s" / "t.csv", "image,label,patient\n" + "\n".join(rows))
    found = read_source(tmp_path / "s").arranged
    (note,) = [n for n in found.notes if "several ways" in n]
    assert note.startswith('4 groups may be written in several ways, such as "001", "1", "1.0"')
    united = read_source(tmp_path / "s", Recipe(unite_groups=True)).arranged
    assert Counter(Counter(s.group for s in united.samples).values()) == {3: 4}
    assert not [n for n in united.notes if "several ways" in n]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [("P1", "p_01", True), ("P1", "P10", False), ("1-1", "11", False), ("7", "7.0", True), ("1.1", "1.10", False),
     ("P1", "P1\u200b", True), ("a", "b", False), ("0", "00", True), ("10", "1", False)],
)  # fmt: skip
def test_spellings_of_one_group(a: str, b: str, same: bool) -> None:
    assert (group_key(a) == group_key(b)) is same


def test_a_negative_label_of_an_array_is_told(tmp_path: Path) -> None:
    images = np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8)
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=np.array([0, 1, -1, 0, -1, 1]))
    found = read_source(tmp_path / "x.npz").arranged
    assert found.classes == ["0", "1", "-1"]
    assert found.notes[0].startswith("2 images with the label -1 are a class of their own")
    named = read_source(tmp_path / "x.npz", Recipe(classes=["x", "y"])).arranged
    assert (len(named.samples), len(named.bad), named.notes) == (4, 2, [])


def test_an_image_without_a_label_among_labelled_ones_is_bad_whatever_its_table_says(tmp_path: Path) -> None:
    class_folders(tmp_path / "s" / "img", {"x": 4})
    put(tmp_path / "s" / "l.csv", "f,dx\nx_000,a\nx_001,b\nx_002,a\n")
    put(tmp_path / "s" / "g.csv", "f,p\nx_000,P1\nx_001,P2\nx_002,P2\n")
    label = LabelTable(file="l.csv", id="f", label="dx", complete=False)
    group = LabelTable(file="g.csv", id="f", group="p", complete=False)
    found = read_source(tmp_path / "s", Recipe(images=["img/x/{name}"], tables=[label, group])).arranged
    assert [(b.path, b.reason) for b in found.bad] == [("img/x/x_003.jpg", "it has no label")]
    found = read_source(tmp_path / "s", Recipe(images=["img/x/{name}"], tables=[group])).arranged
    assert [s.group for s in found.samples] == ["P1", "P2", "P2", None]
