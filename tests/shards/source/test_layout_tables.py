from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import yaml
from trees import by_path, class_folders, picture, put

from medvq.config.recipe import LabelTable, Recipe
from medvq.errors import DataError, NotFoundError, UsageError
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.pack.pack import pack
from medvq.shards.source.resolve import read_source
from medvq.shards.source.tables import read_rows


def test_a_table_gives_labels_groups_and_splits(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "s" / "images" / f"img {i}.png", i)
    rows = "".join(f'"img {i}.png","{"ab"[i % 2]}",{i // 2},{"Train" if i < 4 else "Validation"}\r\n' for i in range(6))
    put(
        tmp_path / "s" / "meta.csv",
        "\ufeff" + '"Image Name",Label,Patient,Fold\r\n' + rows + '"gone.png",a,9,Train\r\n',
    )
    table = LabelTable(file="meta.csv", id="Image Name", label="Label", group="Patient", split="Fold")
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
        images=["{name}"], tables=[LabelTable.model_validate({"file": "t.csv", "id": "id", "label": "dx", **table})]
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


def test_a_class_that_the_recipe_does_not_know_is_a_mistake_of_the_recipe(tmp_path: Path) -> None:
    class_folders(tmp_path / "s", {"Neutrophils": 2, "lymfocyte": 1})
    recipe = Recipe(images=["{class}/{name}"], classes={"lymphocyte": [], "neutrophil": ["neutrophils"]})
    with pytest.raises(UsageError, match=r"lymfocyte .1 images.*did you mean lymphocyte") as e:
        read_source(tmp_path / "s", recipe)
    dropped = recipe.model_copy(update=yaml.safe_load(str(e.value.hint).splitlines()[-1]))
    found = read_source(tmp_path / "s", dropped).arranged
    assert ([s.label for s in found.samples], found.bad) == (["neutrophil"] * 2, [])
    assert [i.reason for i in found.ignored] == ["the recipe drops class lymfocyte"]
    assert found.classes == ["lymphocyte", "neutrophil"]
    assert "class lymphocyte has no image" in found.notes


def test_folder_and_table_must_agree(tmp_path: Path) -> None:
    class_folders(tmp_path / "s", {"a": 2, "b": 2})
    put(tmp_path / "s" / "t.csv", "file,label\na/a_000.jpg,a\na/a_001.jpg,b\nb/b_000.jpg,b\nb/b_001.jpg,b\n")
    recipe = Recipe(
        images=["{class}/{name}"], tables=[LabelTable(file="t.csv", id="file", match="path", label="label")]
    )
    assert [b.path for b in read_source(tmp_path / "s", recipe).arranged.bad] == ["a/a_001.jpg"]


def test_path_and_table_must_agree_about_split_and_group(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "s" / ("train" if i < 2 else "test") / f"p{i // 2}_{i}.png", i)
    rows = "0,Training,p0\n1,test,p0\n2,test,p0\n3,,\n"
    put(tmp_path / "s" / "t.csv", "id,split,patient\n" + rows)
    table = LabelTable(file="t.csv", id="id", split="split", group="patient")
    found = read_source(tmp_path / "s", Recipe(images=["{split}/{group}_{id}.png"], tables=[table])).arranged
    assert [(s.path, s.split, s.group) for s in found.samples] == [
        ("test/p1_3.png", "test", "p1"), ("train/p0_0.png", "train", "p0")
    ]  # fmt: skip
    assert [(b.path, b.reason) for b in found.bad] == [
        ("test/p1_2.png", "two groups: p1 by its path and p0 by t.csv"),
        ("train/p0_1.png", "two splits: train by its path and test by t.csv"),
    ]
    chosen = Recipe(images=["{*}/{*}_{id}.png"], tables=[table])
    found = read_source(tmp_path / "s", chosen).arranged
    assert ([s.split for s in found.samples], found.bad) == (["test", "train", "train", "test"], [])


def test_names_are_compared_as_they_look(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "s" / f"{unicodedata.normalize('NFD', f'é{i}')}.png", i)
    put(tmp_path / "s" / "labels.csv", "id,label\n" + "".join(f"é{i},{'ab'[i % 2]}\n" for i in range(4)))
    for recipe in (None, Recipe(images=["{name}"], tables=[LabelTable(file="labels.csv", id="id", label="label")])):
        found = read_source(tmp_path / "s", recipe).arranged
        assert [s.label for s in found.samples] == ["a", "b", "a", "b"]
        assert [n for n in found.notes if not n.startswith("labels are")] == []


def test_a_row_that_names_several_images_labels_none(tmp_path: Path) -> None:
    for i, path in enumerate(["x/p0.png", "y/p0.png", "x/p1.png", "y/P2_1.png", "y/P2_2.png"]):
        picture(tmp_path / "s" / path, i)
    put(tmp_path / "s" / "t.csv", "id,label\np0,a\np1,b\nP2,b\n")
    table = LabelTable(file="t.csv", id="id", label="label")
    found = read_source(tmp_path / "s", Recipe(images=["{*}/{id}_{*}.png", "{*}/{name}"], tables=[table])).arranged
    assert [s.path for s in found.samples] == ["x/p1.png", "y/P2_1.png", "y/P2_2.png"], "P2 is meant for two"
    assert [b.reason for b in found.bad] == ["t.csv line 2: p0 is the name of x/p0.png, y/p0.png"] * 2
    put(tmp_path / "s" / "t.csv", "id,label\nx/p0.png,a\ny/p0.png,b\nx/p1.png,b\ny/P2_1.png,a\ny/P2_2.png,b\n")
    by_path = LabelTable(file="t.csv", id="id", label="label", match="path")
    found = read_source(tmp_path / "s", Recipe(images=["{*}/{name}"], tables=[by_path])).arranged
    assert ([s.label for s in found.samples], found.bad) == (["a", "b", "a", "b", "b"], [])


@pytest.mark.parametrize(
    ("folders", "tables", "why"),
    [
        ("", {"labels": "id,label", "patients": "id,label,patient"}, "several tables have labels"),
        ("", {"labels": "id,grade,stain"}, "no column is known to hold labels"),
        ("ab", {"labels": "id,label"}, "labels come from the folders"),
    ],
)
def test_a_table_that_names_the_images_and_is_not_used_is_told(
    tmp_path: Path, folders: str, tables: dict[str, str], why: str
) -> None:
    for i in range(4):
        picture(tmp_path / "s" / (folders and folders[i % 2]) / f"p{i}.png", i)
    for name, header in tables.items():
        rows = [f"p{i}" + ",x" * header.count(",") for i in range(4)]
        put(tmp_path / "s" / f"{name}.csv", "\n".join([header, *rows]))
    put(tmp_path / "s" / "other.csv", "id,label\nq1,a\n")
    notes = read_source(tmp_path / "s").arranged.notes
    if not folders:
        assert notes.pop().startswith("not used: other.csv: no column holds")
    assert [n.split(" names")[0] for n in notes] == [f"{name}.csv" for name in tables]
    assert all(why in n for n in notes)


@pytest.mark.parametrize(
    ("file", "ids", "why"),
    [
        ("labels.csv", "p1 p3 q3", "it names 2 of 6 images (id), too few"),
        ("labels.csv", "P0 P1 P2 P3 P4 p5", "its names (id) differ from those of images in case"),
        ("labels.tsv", "x/p0 x/p1 x/p2 x/p3", "its names (id) differ from those of images in case or folders"),
        ("labels.xlsx", "p0 p1 p2 p3 p4 p5", "save it as CSV"),
        ("labels.csv", "", "it cannot be read"),
    ],
)
def test_a_table_beside_images_without_labels_is_told(tmp_path: Path, file: str, ids: str, why: str) -> None:
    for i in range(6):
        picture(tmp_path / "s" / f"p{i}.png", i)
    put(tmp_path / "s" / file, "id,label\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(ids.split())))
    found = read_source(tmp_path / "s").arranged
    assert {s.label for s in found.samples} == {None}
    assert [n.startswith(f"not used: {file}: {why}") for n in found.notes] == [True], found.notes


def test_a_guessed_label_column_is_told_and_one_of_many_values_is_none(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "s" / f"p{i}.png", i)
    put(tmp_path / "s" / "t.csv", "image,age\n" + "".join(f"p{i},{30 + i}\n" for i in range(6)))
    found = read_source(tmp_path / "s").arranged
    assert found.classes == []
    assert "t.csv names the images (image) and is not used" in found.notes[0]
    put(tmp_path / "s" / "t.csv", "image,age\n" + "".join(f"p{i},{30 + i % 2}\n" for i in range(6)))
    found = read_source(tmp_path / "s").arranged
    (note,) = found.notes
    assert note.startswith("labels are column age of t.csv, with 2 classes: 30, 31; images are named by its column")


def test_paths_of_a_table_may_start_above_the_source(tmp_path: Path) -> None:
    class_folders(tmp_path / "set" / "cells", {"a": 2, "b": 2})
    rows = "".join(f"set/cells/{c}/{c}_00{i}.jpg,{'train' if i else 'val'}\n" for c in "ab" for i in range(2))
    put(tmp_path / "set" / "split.csv", "file,split\n" + rows)
    recipe = Recipe(
        images=["{class}/{name}"], tables=[LabelTable(file="../split.csv", id="file", match="path", split="split")]
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


def test_masks_do_not_hide_a_table(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "s" / f"p{i}.png", i)
        picture(tmp_path / "s" / f"p{i}_mask.png", 10 + i, channels=1)
    put(tmp_path / "s" / "t.csv", "id,label\n" + "".join(f"p{i},{'ab'[i % 2]}\n" for i in range(5)))
    found = read_source(tmp_path / "s").arranged
    assert [s.label for s in found.samples if s.mask] == ["a", "b", "a", "b", "a"]
    assert [b.reason for b in found.bad] == ["no row for it in t.csv"]


@pytest.mark.parametrize("text", [b'id,label\n0,x\n9,"' + b"y" * 200_000 + b'"\n', b"\xff\xfeid,label\n1", b"id\0"])
def test_a_file_that_is_no_table_is_an_error_where_it_is_named_and_else_none(tmp_path: Path, text: bytes) -> None:
    for i in range(3):
        picture(tmp_path / "s" / f"{i}.png", i)
    put(tmp_path / "s" / "labels.csv", text)
    assert [s.label for s in read_source(tmp_path / "s").arranged.samples] == [None] * 3
    recipe = Recipe(images=["{id}.png"], tables=[LabelTable(file="labels.csv", id="id", label="label")])
    with pytest.raises((DataError, UsageError)) as e:
        read_source(tmp_path / "s", recipe)
    assert "labels.csv" in str(e.value.where)


def test_a_label_that_is_several_classes_is_a_bad_sample(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "s" / f"im_{i}.png", i)
    put(tmp_path / "s" / "t.csv", 'id,dx\nim_0,a\nim_1,"A, b"\nim_2,a;b\nim_3,b\n')
    table = LabelTable(file="t.csv", id="id", label="dx")
    found = read_source(tmp_path / "s", Recipe(images=["{name}"], classes=["a", "b"], tables=[table])).arranged
    assert [s.label for s in found.samples] == ["a", "b"]
    assert [b.reason.split(" (")[0] for b in found.bad] == ["unknown class 'A, b'", "unknown class 'a;b'"]
