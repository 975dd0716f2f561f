from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import by_path, class_folders, course, encode, picture, pixels, put, rows_of

from medvq.config.errors import DataError, NotFoundError, UsageError
from medvq.config.recipe import Recipe, Splits, Subset, Table
from medvq.shards.detect import detect
from medvq.shards.manifest import read_manifest
from medvq.shards.pack import pack
from medvq.shards.patterns import compile_pattern
from medvq.shards.subset import take
from medvq.shards.tables import read_rows
from medvq.shards.understand import explain, read_source, understand


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


def test_a_table_gives_labels_groups_and_splits(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "s" / "images" / f"img {i}.png", i)
    rows = "".join(f'"img {i}.png","{"ab"[i % 2]}",{i // 2},{"Train" if i < 4 else "Validation"}\r\n' for i in range(6))
    put(
        tmp_path / "s" / "meta.csv",
        "\ufeff" + '"Image Name",Label,Patient,Fold\r\n' + rows + '"gone.png",a,9,Train\r\n',
    )
    table = Table(file="meta.csv", id="Image Name", label="Label", group="Patient", split="Fold")
    pack(tmp_path / "s", tmp_path / "out", Recipe(images=["images/{name}"], tables=[table]), processes=1)
    found = by_path(tmp_path / "out")
    assert {p: (r["label"], r["group"], r["split"]) for p, r in found.items()} == {
        f"images/img {i}.png": (i % 2, str(i // 2), "train" if i < 4 else "val") for i in range(6)
    }
    manifest = read_manifest(tmp_path / "out")
    assert manifest.splits["train"].groups == 2
    assert any("1 rows of meta.csv have no image" in n for n in manifest.notes)
    assert manifest.leaks.checked == ["bytes", "group"]


@pytest.mark.parametrize(
    "text",
    [
        "name;dx\na1;x\na2;y\n",
        "name\tdx\r\na1\tx\r\na2\ty\r\n",
        'name,dx\n"a1","x"\n a2 , y \n\n',
        "name|dx\na1|x\na2|y",
    ],
)
def test_table_dialects(tmp_path: Path, text: str) -> None:
    header, rows = read_rows(put(tmp_path / "t.csv", text))
    assert header == ["name", "dx"]
    assert [r for _, r in rows] == [{"name": "a1", "dx": "x"}, {"name": "a2", "dx": "y"}]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_table_encodings(tmp_path: Path, codec: str) -> None:
    header, rows = read_rows(put(tmp_path / "t.csv", "größe,x\nklein,é\n".encode(codec)))
    assert (header, rows[0][1]) == (["größe", "x"], {"größe": "klein", "x": "é"})


def test_bad_tables_say_where(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_rows(tmp_path / "none.csv")
    for text in ("", "a,b\n1,2,3\n", b"\x00\x01\x02a,b\n"):
        with pytest.raises(DataError) as e:
            read_rows(put(tmp_path / "t.csv", text))
        assert "t.csv" in str(e.value.where)


def labelled(root: Path, rows: str, **table: object) -> object:
    for i in range(4):
        picture(root / f"im_{i}.png", i)
    put(root / "t.csv", rows)
    recipe = Recipe(
        images=["{name}"], tables=[Table.model_validate({"file": "t.csv", "id": "id", "label": "dx", **table})]
    )
    return read_source(root, recipe).arranged


def test_rows_that_conflict_are_missing_or_unknown_are_bad_samples(tmp_path: Path) -> None:
    found = labelled(tmp_path / "s", "id,dx\nim_0,a\nim_1,a\nim_1,b\nim_2,\n")
    assert [s.path for s in found.samples] == ["im_0.png"]
    reasons = {b.path: b.reason for b in found.bad}
    assert "disagree" in reasons["im_1.png"]
    assert "no dx" in reasons["im_2.png"]
    assert "no row" in reasons["im_3.png"]


def test_the_same_row_twice_is_no_conflict(tmp_path: Path) -> None:
    found = labelled(tmp_path / "s", "id,dx\nim_0,a\nim_0,a\nim_1,b\nim_2,b\nim_3,a\n")
    assert len(found.samples) == 4


def test_numbers_become_names_by_a_format_and_values_become_classes(tmp_path: Path) -> None:
    found = labelled(
        tmp_path / "s", "id,dx\n0,1\n1,2\n2,1\n3,2\n", format="im_{:d}", values={"1": "neutro", "2": "lympho"}
    )
    assert [s.label for s in found.samples] == ["neutro", "lympho", "neutro", "lympho"]


def test_one_hot_columns(tmp_path: Path) -> None:
    found = labelled(tmp_path / "s", "id,m,k\nim_0,1.0,0\nim_1,0,1\nim_2,0,0\nim_3,1,1\n",
                     label=None, one_hot=["m", "k"], otherwise="nevus")  # fmt: skip
    assert [s.label for s in found.samples] == ["m", "k", "nevus"]
    assert "several classes: m, k" in found.bad[0].reason


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'diagnosys'") as e:
        labelled(tmp_path / "s", "id,diagnosis\nim_0,a\n", label="diagnosys")
    assert "diagnosis" in str(e.value.hint)


def test_a_class_that_the_recipe_does_not_know_is_bad(tmp_path: Path) -> None:
    class_folders(tmp_path / "s", {"Neutrophils": 2, "lymfocyte": 1})
    recipe = Recipe(images=["{class}/{name}"], classes={"lymphocyte": [], "neutrophil": ["neutrophils"]})
    found = read_source(tmp_path / "s", recipe).arranged
    assert [s.label for s in found.samples] == ["neutrophil"] * 2
    assert found.classes == ["lymphocyte", "neutrophil"]
    assert "unknown class 'lymfocyte' (did you mean lymphocyte?)" in found.bad[0].reason
    assert "class lymphocyte has no image" in found.notes


def test_folder_and_table_must_agree(tmp_path: Path) -> None:
    class_folders(tmp_path / "s", {"a": 2, "b": 2})
    put(tmp_path / "s" / "t.csv", "file,label\na/a_000.jpg,a\na/a_001.jpg,b\nb/b_000.jpg,b\nb/b_001.jpg,b\n")
    recipe = Recipe(images=["{class}/{name}"], tables=[Table(file="t.csv", id="file", match="path", label="label")])
    assert [b.path for b in read_source(tmp_path / "s", recipe).arranged.bad] == ["a/a_001.jpg"]


def test_paths_of_a_table_may_start_above_the_source(tmp_path: Path) -> None:
    class_folders(tmp_path / "set" / "cells", {"a": 2, "b": 2})
    rows = "".join(f"set/cells/{c}/{c}_00{i}.jpg,{'train' if i else 'val'}\n" for c in "ab" for i in range(2))
    put(tmp_path / "set" / "split.csv", "file,split\n" + rows)
    recipe = Recipe(
        images=["{class}/{name}"], tables=[Table(file="../split.csv", id="file", match="path", split="split")]
    )
    found = read_source(tmp_path / "set" / "cells", recipe).arranged
    assert Counter(s.split for s in found.samples) == {"train": 2, "val": 2}


def test_a_table_beside_flat_images_is_found(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "s" / "images" / f"ISIC_{i}.jpg", i)
    put(tmp_path / "s" / "meta.csv", "image_id,age,diagnosis,patient_id\n"
        + "".join(f"ISIC_{i},50,{'nv' if i % 2 else 'mel'},p{i // 2}\n" for i in range(6)))  # fmt: skip
    understood = read_source(tmp_path / "s")
    assert understood.recipe.tables[0].label == "diagnosis"
    assert Counter(s.label for s in understood.arranged.samples) == {"nv": 3, "mel": 3}
    assert {s.group for s in understood.arranged.samples} == {"p0", "p1", "p2"}
    assert "labels in meta.csv" in understood.layout


def test_lists_give_the_splits(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / "s" / "JPEGImages" / f"b_{i}.jpg", i)
    put(tmp_path / "s" / "train.txt", "b_0\nb_1\n\n")
    put(tmp_path / "s" / "test.txt", "b_2\r\nb_1\r\nb_7\r\n")
    recipe = Recipe(images=["JPEGImages/{name}"], splits=Splits(lists={"train": "train.txt", "test": "test.txt"}))
    found = read_source(tmp_path / "s", recipe).arranged
    assert {s.path[-7:]: s.split for s in found.samples} == {"b_0.jpg": "train", "b_2.jpg": "test"}
    assert [b.reason for b in found.bad] == [
        "it is listed for train and for test", "it is in no list of splits", "it is in no list of splits"
    ]  # fmt: skip
    assert found.ignored == []


def test_masks_beside_the_image_and_orphans(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "s" / "Dataset 1" / f"00{i}.bmp", i)
        put(tmp_path / "s" / "Dataset 1" / f"00{i + 1}.png", encode(pixels(i, channels=1)))
    put(tmp_path / "s" / "t.csv", "id,c\n0,1\n1,2\n2,1\n")
    recipe = Recipe(images=["Dataset 1/{id}.bmp"], masks="Dataset 1/{id}.png",
                    tables=[Table(file="t.csv", id="id", format="{:03d}", label="c")])  # fmt: skip
    report = pack(tmp_path / "s", tmp_path / "out", recipe, processes=1)
    assert [r["has_mask"] for r in by_path(tmp_path / "out").values()].count(True) == 2
    assert (report.seen, report.written, report.ignored) == (4, 3, 1)
    assert read_manifest(tmp_path / "out").ignored == [
        {"path": "Dataset 1/003.png", "reason": "a mask without an image"}
    ]


def test_two_masks_for_one_image_are_bad(tmp_path: Path) -> None:
    course(tmp_path / "s", {"train": {"a": 2, "b": 2}})
    put(tmp_path / "s" / "train" / "mask" / "a" / "a_000.bmp", encode(pixels(0, channels=1), "BMP"))
    assert ["several masks" in b.reason for b in read_source(tmp_path / "s").arranged.bad] == [True]


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


DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SETS = {
    "pbc": ("pbc/PBC_dataset_normal_DIB", {"train": 1400, "val": 200}),
    "segmentation-wbc": ("segmentation_wbc_dataset1", {"train": 300}),
    "isic2017": ("isic2017_256", {"train": 1999, "val": 150}),
    "bccd": ("bccd", {"train": 194, "val": 86, "test": 68}),
    "lc25000-lung": ("lc25000_lung_224", {"train": 1200}),
    "brain-tumor-mri": ("brain_tumor_mri_224", {"train": 1000}),
    "leukemia": ("leukemia_all_224", {"train": 160}),
    "pbc28": ("pbc28/pbc28.npz", {"train": 11959, "val": 1712}),
}


@pytest.mark.parametrize("name", SETS)
def test_recipes_read_the_sets_they_are_for(name: str) -> None:
    from medvq.config.recipe import load_recipe

    source, splits = SETS[name]
    if not (DATA / source).exists():
        pytest.skip("the set is not here")
    recipe = load_recipe(Path(__file__).resolve().parents[2] / "shards" / f"{name}.yaml")
    found = read_source(DATA / source, recipe).arranged
    assert Counter(s.split for s in found.samples) == splits
    assert found.classes == recipe.class_names()
    assert len({s.label for s in found.samples}) == len(found.classes)


def test_masks_taken_for_images_are_remarked_on(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "s" / f"00{i}.bmp", i)
        put(tmp_path / "s" / f"00{i}.png", encode(pixels(i, channels=1)))
    assert any("twin of the same name" in n for n in read_source(tmp_path / "s").arranged.notes)
