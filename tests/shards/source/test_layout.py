from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from real_sets import SETS
from trees import by_path, course, encode, picture, pixels, put, rows_of

from medvq.config.recipe import LabelTable, Recipe, Splits, Subset
from medvq.errors import UsageError
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.pack.pack import pack
from medvq.shards.pack.preview import explain
from medvq.shards.sampling.subset import take
from medvq.shards.source.detect import detect
from medvq.shards.source.patterns import compile_pattern
from medvq.shards.source.resolve import read_source, understand


@pytest.mark.parametrize(
    ("paths", "images", "masks"),
    [
        (["a/1.png", "b/2.png"], "{class}/{name}", None),
        (["1.png", "2.png"], "{name}", None),
        (["images/a/1.png", "images/b/2.png"], "images/{class}/{name}", None),
        (["train/a/1.png", "test/b/2.png"], "{split}/{class}/{name}", None),
        (["Training/a/1.png", "Training/b/2.png"], "{split}/{class}/{name}", None),
        (["a/train/1.png", "b/test/2.png"], "{class}/{split}/{name}", None),
        (["train/1.png", "val/2.png"], "{split}/{name}", None),
        (["x/y/train/a/1.png", "x/y/val/b/2.png"], "x/y/{split}/{class}/{name}", None),
        (["train/data/a/1.png", "train/mask/a/1.png", "val/data/b/2.png"], "{split}/data/{class}/{name}",
         "{split}/mask/{class}/{name}"),
        (["images/1.jpg", "images/2.jpg", "masks/1.png"], "images/{name}", "masks/{name}"),
        (["data/a/1.png", "data/b/1.png", "mask/a/1.png"], "data/{class}/{name}", "mask/{class}/{name}"),
        (["only/1.png", "only/2.png"], "only/{name}", None),
        (["a/1.png", "a/2.png", "b/3.png", "stray.png"], "{class}/{name}", None),
        (["a/1.png", "a/1_mask.png", "b/2.png", "b/2_mask.png"], "{class}/{name}", "{class}/{id}_mask.{ext}"),
        (["a/1.png", "a/1_mask.png", "a/2.png"], "a/{name}", "a/{id}_mask.{ext}"),
        (["1.jpg", "1-SEG.png", "2.jpg", "2-SEG.png"], "{name}", "{id}-SEG.{ext}"),
        (["train/a/1.png", "train/a/1_segmentation.png", "val/b/2.png"], "{split}/{class}/{name}",
         "{split}/{class}/{id}_segmentation.{ext}"),
        (["images/1.jpg", "images/2.jpg", "masks/1_mask.png"], "images/{name}", "masks/{id}_mask.{ext}"),
        (["data/a/1.png", "data/b/1.png", "mask/a/1_Seg.png", "mask/b/1.png", "mask/a/2_Seg.png"],
         "data/{class}/{name}", "mask/{class}/{name}"),
        (["a/1.png", "a/1_mask.png", "a/1_mask_1.png", "b/2.png", "b/2_mask.png"], "{class}/{name}",
         "{class}/{id}_mask{*}.{ext}"),
        (["images/1.jpg", "images/2.jpg", "masks/1_mask1.png", "masks/1_mask2.png"], "images/{name}",
         "masks/{id}_mask{*}.{ext}"),
        (["a/1.png", "a/1_seg1.png", "b/2.png", "b/2_seg1.png"], "{class}/{name}", "{class}/{id}_seg1.{ext}"),
        (["a/1.png", "a/1_mask.png", "a/1_mask_1.png", "b/2_masked.png"], "{class}/{name}",
         "{class}/{id}_mask.{ext}"),
        (["with_mask/0-with-mask.jpg", "without_mask/0.jpg"], "{class}/{name}", None),
    ],
)  # fmt: skip
def test_usual_layouts_are_detected(paths: list[str], images: str, masks: str | None) -> None:
    found = detect(paths)
    assert (found.images, found.masks) == (images, masks)


def test_an_unusual_layout_asks_for_a_recipe() -> None:
    with pytest.raises(UsageError, match="cannot tell") as e:
        detect(["x/y/1.png", "x/z/2.png", "q/z/2.png"])
    assert "recipe" in str(e.value.hint)


@pytest.mark.parametrize(
    ("paths", "pattern"),
    [
        (["x/p0/1.png", "x/p1/2.png", "y/p2/1.png"], "{class}/{group}/{name}"),
        (["train/x/p0/1.png", "test/x/p1/2.png"], "{split}/{class}/{group}/{name}"),
        (["w/x/p0/s/1.png", "w/y/p1/t/2.png"], "w/{class}/{group}/{*}/{name}"),
    ],
)
def test_the_recipe_that_is_proposed_fits(paths: list[str], pattern: str) -> None:
    with pytest.raises(UsageError, match="cannot tell") as e:
        detect(paths)
    assert f'`images: "{pattern}"`' in str(e.value.hint)
    assert all(compile_pattern(pattern).match(p) for p in paths)


@pytest.mark.parametrize(
    ("pattern", "path", "fields"),
    [
        ("{class}/{name}", "a/b.c.png", {"class": "a", "name": "b.c.png", "id": "b.c"}),
        ("{id}.{ext}", "a.b.png", {"id": "a.b", "ext": "png"}),
        ("k_{split}/case_{group}_slice_{*}.png", "k_train/case_402_slice_0.nii.png",
         {"split": "train", "group": "402", "id": "case_402_slice_0.nii"}),
        ("{class}/{class}_{id}.png", "a/a_1.png", {"class": "a", "id": "1"}),
        ("{**}/{name}", "x/y/z.png", {"name": "z.png", "id": "z"}),
    ],
)  # fmt: skip
def test_patterns_read_paths(pattern: str, path: str, fields: dict[str, str]) -> None:
    assert compile_pattern(pattern).match(path) == fields


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("{class}/{name}", "a/b/c.png"),
        ("{class}/{class}_{id}.png", "a/b_1.png"),
        ("{name}", "a/b.png"),
        ("x.png", "xapng"),
    ],
)
def test_patterns_refuse_other_paths(pattern: str, path: str) -> None:
    assert compile_pattern(pattern).match(path) is None


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1), st.text("ab.\n ", min_size=1))
def test_a_pattern_takes_any_name(folder: str, name: str) -> None:
    assert compile_pattern("{class}/{name}").match(f"{folder}/{name}") is not None


def test_lists_give_the_splits(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / "s" / "JPEGImages" / f"b_{i}.jpg", i)
    put(tmp_path / "s" / "train.txt", "b_0\nb_1\n\n")
    put(tmp_path / "s" / "test.txt", "b_2\r\nb_1\r\nb_7\r\n")
    recipe = Recipe(images=["JPEGImages/{name}"], splits=Splits(lists={"train": "train.txt", "test": "test.txt"}))
    found = read_source(tmp_path / "s", recipe).arranged
    assert {s.path[-7:]: s.split for s in found.samples} == {"b_0.jpg": "train", "b_2.jpg": "test"}
    assert [b.reason for b in found.bad] == [
        "two splits: train by train.txt and test by test.txt",
        "it is in no list of splits",
        "it is in no list of splits",
    ]
    assert found.ignored == []


def test_an_image_with_several_masks_is_bad_and_none_of_them_an_image(tmp_path: Path) -> None:
    for i, name in enumerate(["a (1)", "a (1)_mask", "a (2)", "a (2)_mask", "a (2)_mask_1", "a (3)", "a (3)_mask"]):
        picture(tmp_path / "s" / "benign" / f"{name}.png", i, channels=1)
    for name in ("n (1)", "n (2)_Mask_1"):
        picture(tmp_path / "s" / "normal" / f"{name}.png", 9, channels=1)
    found = read_source(tmp_path / "s").arranged
    assert {s.path: bool(s.mask) for s in found.samples} == {
        "benign/a (1).png": True, "benign/a (3).png": True, "normal/n (1).png": False
    }  # fmt: skip
    assert [b.path for b in found.bad] == ["benign/a (2).png", "normal/n (2)_Mask_1.png"]
    assert "named as a mask, without an image" in found.bad[1].reason
    assert "several masks: benign/a (2)_mask.png, benign/a (2)_mask_1.png" in found.bad[0].reason


def test_masks_beside_the_image_and_orphans(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "s" / "Dataset 1" / f"00{i}.bmp", i)
        put(tmp_path / "s" / "Dataset 1" / f"00{i + 1}.png", encode(pixels(i, channels=1)))
    put(tmp_path / "s" / "t.csv", "id,c\n0,1\n1,2\n2,1\n")
    recipe = Recipe(images=["Dataset 1/{id}.bmp"], masks="Dataset 1/{id}.png",
                    tables=[LabelTable(file="t.csv", id="id", format="{:03d}", label="c")])  # fmt: skip
    report = pack(tmp_path / "s", tmp_path / "out", recipe, processes=1)
    assert [r["has_mask"] for r in by_path(tmp_path / "out").values()].count(True) == 2
    assert (report.seen, report.written, report.ignored) == (4, 3, 1)
    assert read_manifest(tmp_path / "out").ignored == [
        {"path": "Dataset 1/003.png", "reason": "a mask without an image"}
    ]


def test_a_mask_folder_may_spell_its_class_and_split_in_another_way(tmp_path: Path) -> None:
    course(tmp_path / "s", {"train": {"Eosinophil": 2, "b": 2}}, masks_every=1)
    (tmp_path / "s" / "train" / "mask").rename(tmp_path / "mask")
    (tmp_path / "mask" / "Eosinophil").rename(tmp_path / "mask" / "Eosinophils")
    (tmp_path / "s" / "Training").mkdir()
    (tmp_path / "mask").rename(tmp_path / "s" / "Training" / "mask")
    recipe = Recipe(images=["{split}/data/{class}/{name}"], masks="{split}/mask/{class}/{name}",
                    classes={"eosinophil": ["Eosinophils"], "b": []})  # fmt: skip
    found = read_source(tmp_path / "s", recipe).arranged
    assert [s.mask is not None for s in found.samples] == [True] * 4


def test_two_masks_for_one_image_are_bad(tmp_path: Path) -> None:
    course(tmp_path / "s", {"train": {"a": 2, "b": 2}})
    put(tmp_path / "s" / "train" / "mask" / "a" / "a_000.bmp", encode(pixels(0, channels=1), "BMP"))
    assert ["several masks" in b.reason for b in read_source(tmp_path / "s").arranged.bad] == [True]


def test_a_mask_goes_to_the_image_of_its_whole_name(tmp_path: Path) -> None:
    recipe = Recipe(images=["data/{class}/{name}"], masks="mask/{class}/{name}")
    for i, name in enumerate(["x0.jpg", "x0.png", "x1.jpg", "x1.png", "x2.jpg"]):
        picture(tmp_path / "s" / "data" / "a" / name, i)
    for i, name in enumerate(["x0.png", "x1.bmp", "x2.png"]):
        picture(tmp_path / "s" / "mask" / "a" / name, 10 + i, channels=1)
    found = read_source(tmp_path / "s", recipe).arranged
    assert {s.path: s.mask.path if s.mask else None for s in found.samples} == {
        "data/a/x0.jpg": None, "data/a/x0.png": "mask/a/x0.png", "data/a/x2.jpg": "mask/a/x2.png"
    }  # fmt: skip
    assert [(b.path, "mask/a/x1.bmp is the mask of data/a/x1.jpg or data/a/x1.png" in b.reason) for b in found.bad] == [
        ("data/a/x1.jpg", True), ("data/a/x1.png", True)
    ]  # fmt: skip
    assert found.ignored == []


def test_one_mask_for_two_images_of_one_name_is_nobodys(tmp_path: Path) -> None:
    for i, folder in enumerate(["x", "y"]):
        picture(tmp_path / "s" / "data" / folder / "p0.png", i)
        picture(tmp_path / "s" / "data" / folder / f"q{i}.png", 5 + i)
    for name in ("p0.png", "q0.png"):
        picture(tmp_path / "s" / "mask" / name, 9, channels=1)
    found = read_source(tmp_path / "s", Recipe(images=["data/{*}/{name}"], masks="mask/{name}")).arranged
    assert [b.path for b in found.bad] == ["data/x/p0.png", "data/y/p0.png"]
    assert {s.path: s.mask is not None for s in found.samples} == {"data/x/q0.png": True, "data/y/q1.png": False}


def test_masks_beside_their_images_are_detected_and_never_images(tmp_path: Path) -> None:
    for i, name in enumerate(["a/x0", "a/x1", "b/x0", "b/x2"]):
        picture(tmp_path / "s" / f"{name}.jpg", i)
        put(tmp_path / "s" / f"{name}_mask.png", encode(pixels(i, channels=1)))
    picture(tmp_path / "s" / "b" / "x1.jpg", 8)
    put(tmp_path / "s" / "b" / "x1-Seg.png", encode(pixels(9, channels=1)))
    put(tmp_path / "s" / "b" / "x9_mask.png", encode(pixels(10, channels=1)))
    understood = read_source(tmp_path / "s")
    found = understood.arranged
    assert understood.layout == "class folders, masks beside the images"
    assert understood.recipe.masks == "{class}/{id}_mask.{ext}"
    assert {s.path: s.mask.path if s.mask else None for s in found.samples} == {
        "a/x0.jpg": "a/x0_mask.png", "a/x1.jpg": "a/x1_mask.png", "b/x0.jpg": "b/x0_mask.png", "b/x1.jpg": None,
        "b/x2.jpg": "b/x2_mask.png",
    }  # fmt: skip
    assert [(b.path, "named as a mask" in b.reason) for b in found.bad] == [("b/x1-Seg.png", True)]
    assert [(i.path, i.reason) for i in found.ignored] == [("b/x9_mask.png", "a mask without an image")]


def test_names_that_end_as_masks_do_without_images_beside_are_images(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / "s" / "ab"[i % 2] / f"{i}_mask.png", i)
    picture(tmp_path / "s" / "a" / "0.png", 9)
    found = read_source(tmp_path / "s").arranged
    assert len(found.samples) == 6
    assert "1 images are named as masks of others (a/0_mask.png)" in found.notes[0]


def test_a_group_by_regular_expression(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "s" / "ab"[i % 2] / f"218{i // 2}_{i}.png", i)
    picture(tmp_path / "s" / "a" / "other.png", 9)
    found = read_source(tmp_path / "s", Recipe(images=["{class}/{name}"], group=r"/(\d+)_")).arranged
    assert [s.group for s in found.samples] == ["2180", "2181", "2180", "2181"]
    assert "group pattern" in found.bad[0].reason


def test_split_names_are_understood_renamed_and_chosen(tmp_path: Path) -> None:
    for i, name in enumerate(["Training", "VALID", "fold 3", "extra"]):
        picture(tmp_path / "s" / name / "a" / f"{i}.png", i)
    recipe = Recipe(
        images=["{split}/{class}/{name}"], splits=Splits(names={"extra": "test"}, keep=["train", "val", "test"])
    )
    found = read_source(tmp_path / "s", recipe).arranged
    assert sorted(s.split for s in found.samples) == ["test", "train", "val"]
    assert found.ignored[0].reason == "the recipe keeps no split fold_3"


def test_two_splits_of_the_source_never_become_one_unasked(tmp_path: Path) -> None:
    for i, name in enumerate(["训练", "测试", "Valid", "validation"]):
        picture(tmp_path / "s" / name / "a" / f"{i}.png", i)
    images = ["{split}/{class}/{name}"]
    with pytest.raises(UsageError, match="测试 and 训练 of the source would become one, called __") as e:
        read_source(tmp_path / "s", Recipe(images=images))
    assert "splits: {names: {测试:" in str(e.value.hint)
    assert read_source(tmp_path / "s", Recipe(images=images, splits=Splits(keep=["val"]))).arranged.ignored
    named = Recipe(images=images, splits=Splits(names={"训练": "train", "测试": "test"}))
    found = read_source(tmp_path / "s", named).arranged
    assert Counter(s.split for s in found.samples) == {"train": 1, "test": 1, "val": 2}


def test_lists_divide_a_folder_that_they_do_not_name(tmp_path: Path) -> None:
    for i, name in enumerate(["trainval/a.png", "trainval/b.png", "test/c.png", "test/d.png"]):
        picture(tmp_path / "s" / name, i)
    put(tmp_path / "s" / "train.txt", "a")
    put(tmp_path / "s" / "val.txt", "b\nd")
    put(tmp_path / "s" / "test.txt", "c\nd")
    lists = {n: f"{n}.txt" for n in ("train", "val", "test")}
    found = read_source(tmp_path / "s", Recipe(images=["{split}/{name}"], splits=Splits(lists=lists))).arranged
    assert [(s.path, s.split) for s in found.samples] == [
        ("test/c.png", "test"), ("trainval/a.png", "train"), ("trainval/b.png", "val")
    ]  # fmt: skip
    assert found.bad[0].reason == "two splits: test by its path and val by val.txt and test by test.txt"


def test_released_subsets_come_first_in_the_ranking(tmp_path: Path) -> None:
    root = tmp_path / "WBC"
    course(root / "WBC_100", {"train": {"a": 40, "b": 21}, "val": {"a": 5, "b": 5}})
    full = {c: sorted((root / "WBC_100" / "train" / "data" / c).iterdir()) for c in "ab"}
    for percent in (50, 10):
        for c in "ab":
            for path in full[c][: take([len(full[c])], percent)[0]]:
                put(root / f"WBC_{percent}" / "train" / "data" / c / path.name, path.read_bytes())
    subsets = [Subset(percent=p, images=f"WBC_{p}/train/data/{{class}}/{{name}}") for p in (10, 50)]
    recipe = Recipe(images=["WBC_100/{split}/data/{class}/{name}"], masks="WBC_100/{split}/mask/{class}/{name}",
                    subset_from=subsets)  # fmt: skip
    report = pack(root, tmp_path / "out", recipe, processes=1)
    assert report.splits == {"train": 61, "val": 10}
    assert report.ignored == 30 + 6
    rows = by_path(tmp_path / "out")
    for c, label in (("a", 0), ("b", 1)):
        for percent in (50, 10):
            n = take([len(full[c])], percent)[0]
            chosen = {p for p, r in rows.items() if r["label"] == label and 0 <= r["rank"] < n}
            assert chosen == {f"WBC_100/train/data/{c}/{p.name}" for p in full[c][:n]}
    assert report.notes == []
    assert sorted(r["rank"] for r in rows_of(tmp_path / "out") if r["label"] == 0) == [-1] * 5 + list(range(40))


def test_explain_tells_what_was_understood(tmp_path: Path) -> None:
    course(tmp_path / "wbc", {"train": {"lymphocyte": 5, "monocyte": 4}, "val": {"lymphocyte": 2, "monocyte": 1}})
    put(tmp_path / "wbc" / "README.md", "hello")
    recipe = Recipe(size=(32, 48), fit="pad", splits=Splits(make={"test": {"of": "val", "share": 0.5}}))
    text = explain(tmp_path / "wbc", recipe)
    for part in ("course layout", "{split}/mask/{class}/{name}", "train: 9 samples, 4 masks", "monocyte: 4",
                 "test: 0.5 of val", "pad to 32x48", "README.md: not an image", "13 seen: 12 samples"):  # fmt: skip
        assert part in text, text
    assert understand(tmp_path / "wbc").masks == "{split}/mask/{class}/{name}"
    assert not any(p.name.startswith(".") for p in tmp_path.iterdir())


DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.mark.parametrize("name", SETS)
def test_recipes_read_the_sets_they_are_for(name: str) -> None:
    from medvq.config.recipe import load_recipe

    source, splits = SETS[name]
    if not (DATA / source).exists():
        pytest.skip("the set is not here")
    recipe = load_recipe(Path(__file__).resolve().parents[3] / "shards" / f"{name}.yaml")
    found = read_source(DATA / source, recipe).arranged
    assert Counter(s.split for s in found.samples) == splits
    assert found.classes == recipe.class_names()
    assert len({s.label for s in found.samples}) == len(found.classes)


def test_masks_taken_for_images_are_remarked_on(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "s" / f"00{i}.bmp", i)
        put(tmp_path / "s" / f"00{i}.png", encode(pixels(i, channels=1)))
    assert any("twin of the same name" in n for n in read_source(tmp_path / "s").arranged.notes)


@pytest.mark.parametrize(
    ("paths", "images", "masks"),
    [
        (["imagesTr/c_{i}_0000.png", "labelsTr/c_{i}.png"], "imagesTr/{id}_0000.{ext}", "labelsTr/{id}.{ext}"),
        (["Original/{i}.tif", "Ground Truth/{i}.tif"], "Original/{name}", "Ground Truth/{name}"),
        (["JPEGImages/{i}.jpg", "SegmentationClass/{i}.png"], "JPEGImages/{name}", "SegmentationClass/{name}"),
        (["images/{i}.jpg", "labels/{i}.png"], "images/{name}", "labels/{name}"),
        (["train/img/{i}.jpg", "train/gt/{i}.png", "test/img/x{i}.jpg"], "{split}/img/{name}", "{split}/gt/{name}"),
        (
            ["ISIC-2017_Data/ISIC_{i}.jpg", "ISIC-2017_GroundTruth/ISIC_{i}_segmentation.png"],
            "ISIC-2017_Data/{id}.{ext}",
            "ISIC-2017_GroundTruth/{id}_segmentation.{ext}",
        ),
        (["a/{i}.jpg", "a/{i}_gt.png", "b/x{i}.jpg"], "{class}/{name}", "{class}/{id}_gt.{ext}"),
        (["x_{i}.jpg", "x_{i}_1stHO.png"], "{name}", "{id}_1stHO.{ext}"),
        (["with_mask/{i}.jpg", "without_mask/{i}.jpg"], "{class}/{name}", None),
        (["cat/{i}.jpg", "dog/{i}.jpg"], "{class}/{name}", None),
    ],
)
def test_masks_of_well_known_layouts_are_paired(
    tmp_path: Path, paths: list[str], images: str, masks: str | None
) -> None:
    for n, path in enumerate(paths):
        for i in range(4):
            picture(tmp_path / path.format(i=i), 10 * n + i, channels=3)
    found = read_source(tmp_path)
    assert (found.recipe.images, found.recipe.masks) == ([images], masks)
    masked = {s.path: s.mask.path for s in found.arranged.samples if s.mask}
    assert masked == ({paths[0].format(i=i): paths[1].format(i=i) for i in range(4)} if masks else {})
    assert not found.arranged.bad
    assert [g.evidence.split()[0] for g in found.arranged.guesses if g.what == "masks"] == (["4"] if masks else [])


def test_several_folders_of_masks_are_asked(tmp_path: Path) -> None:
    for split in ("training", "test"):
        for i in range(4):
            picture(tmp_path / split / "images" / f"{i}_{split}.tif", i)
            picture(tmp_path / split / "mask" / f"{i}_{split}_mask.gif", 10 + i)
            picture(tmp_path / split / "1st_manual" / f"{i}_manual1.gif", 20 + i)
    with pytest.raises(UsageError, match="1st_manual and mask look like masks") as e:
        read_source(tmp_path)
    lines = [line.strip() for line in str(e.value.hint).splitlines()[1:]]
    for two in (lines[:2], lines[2:]):
        found = read_source(tmp_path, Recipe.model_validate(yaml.safe_load("\n".join(two)))).arranged
        assert [s.mask is not None for s in found.samples] == [True] * 8, two
        assert {s.split for s in found.samples} == {"train", "test"}
        assert {s.label for s in found.samples} == {None}


def test_masks_that_belong_to_no_image_are_refused(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / f"id{i}" / "images" / f"id{i}.png", i)
        picture(tmp_path / f"id{i}" / "masks" / f"cell{i}.png", 10 + i)
    with pytest.raises(UsageError, match="none has the name of an image"):
        read_source(tmp_path)


@pytest.mark.parametrize("suffixes", [("jpg", "png"), ("bmp", "png"), ("png", "tif")])
def test_the_recipe_proposed_for_twins_works(tmp_path: Path, suffixes: tuple[str, str]) -> None:
    for i in range(6):
        for n, suffix in enumerate(suffixes):
            picture(tmp_path / "ab"[i % 2] / f"{i}.{suffix}", 10 * n + i)
    (note,) = [n for n in read_source(tmp_path).arranged.notes if "twin" in n]
    recipe = yaml.safe_load("\n".join(re.findall(r"`([^`]*)`", note)))
    found = read_source(tmp_path, Recipe.model_validate(recipe)).arranged
    assert [(s.label, s.mask is not None) for s in found.samples] == [("a", True)] * 3 + [("b", True)] * 3


def test_the_recipe_proposed_for_names_of_masks_works(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "ab"[i % 2] / f"{i}.png", i)
        picture(tmp_path / "ab"[i % 2] / f"{i + (10 if i > 1 else 0)}-seg.png", 20 + i)
    (note,) = [n for n in read_source(tmp_path).arranged.notes if "named as masks" in n]
    recipe = yaml.safe_load(re.findall(r"`([^`]*)`", note)[0])
    found = read_source(tmp_path, Recipe.model_validate(recipe)).arranged
    assert (len(found.samples), sum(s.mask is not None for s in found.samples)) == (6, 2)


def test_the_recipe_proposed_for_several_shapes_loses_no_image(tmp_path: Path) -> None:
    paths = ["x/p0/1.png", "x/p1/2.png", "y/p2/1.png", "z/1.png", "z/2.png", "3.png"]
    for i, path in enumerate(paths):
        picture(tmp_path / path, i)
    with pytest.raises(UsageError, match="cannot tell") as e:
        read_source(tmp_path)
    recipe = Recipe.model_validate(yaml.safe_load(re.findall(r"`([^`]*)`", str(e.value.hint))[0]))
    assert not read_source(tmp_path, recipe).arranged.ignored
