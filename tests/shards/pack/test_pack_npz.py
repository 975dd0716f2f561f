from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from trees import by_path, facts, member, put, rows_of, signature

from medvq.config.recipe import LabelTable, Recipe, Splits
from medvq.errors import DataError, UsageError
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.dataset.verify import verify
from medvq.shards.pack.pack import BadSamplesError, pack
from medvq.shards.source.resolve import read_source


def arrays(n: dict[str, int], shape: tuple[int, ...] = (28, 28, 3), classes: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    out = {}
    for split, k in n.items():
        out[f"{split}_images"] = rng.integers(0, 256, (k, *shape), dtype=np.uint8)
        out[f"{split}_labels"] = (np.arange(k, dtype=np.uint8) % classes)[:, None]
    return out


@pytest.mark.parametrize("shape", [(28, 28, 3), (28, 28), (28, 28, 1)])
@pytest.mark.parametrize("store", ["auto", "png"])
def test_a_medmnist_file_becomes_a_dataset(tmp_path: Path, shape: tuple[int, ...], store: str) -> None:
    data = arrays({"train": 90, "val": 10, "test": 20}, shape)
    np.savez_compressed(tmp_path / "some.npz", **data)
    recipe = Recipe.model_validate({"store": store, "classes": ["x", "y", "z"]})
    report = pack(tmp_path / "some.npz", tmp_path / "out", recipe, processes=2)
    assert report.splits == {"train": 90, "val": 10, "test": 20}
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.name, manifest.classes) == ("some", ["x", "y", "z"])
    assert manifest.image.channels == (3 if shape[-1] == 3 else 1)
    assert verify(tmp_path / "out", deep=True) == []
    for row in rows_of(tmp_path / "out"):
        split, n = facts(tmp_path / "out", row)["path"].split("/")
        raw = io.BytesIO(member(tmp_path / "out", row))
        assert row["ext"] == ("npy" if store == "auto" else "png")
        if store == "auto":
            found = np.load(raw)
        else:
            from PIL import Image

            found = np.asarray(Image.open(raw))
        np.testing.assert_array_equal(found, data[f"{split}_images"][int(n)].reshape(found.shape))
        assert row["label"] == data[f"{split}_labels"][int(n), 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "some.npz"]
    assert pack(tmp_path / "some.npz", tmp_path / "out", recipe, processes=1).unchanged
    pack(tmp_path / "some.npz", tmp_path / "one", recipe, processes=1)
    assert signature(tmp_path / "one") == signature(tmp_path / "out")


def test_a_table_may_divide_the_rows_in_another_way(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays({"train": 4, "val": 2}))
    put(tmp_path / "t.csv", "row,split\ntrain/3,test\nval/0,train\n")
    table = LabelTable(file="t.csv", id="row", split="split", complete=False)
    report = pack(tmp_path / "x.npz", tmp_path / "out", Recipe(tables=[table]), processes=1)
    assert report.splits == {"train": 4, "val": 1, "test": 1}


def test_a_folder_with_one_file_and_its_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "s" / "x.npz" if (tmp_path / "s").mkdir() is None else "", **arrays({"train": 6, "val": 3}))
    rows = "".join(f"{s},{i},{'xyz'[i % 3]},p{i // 2}{s}\n" for s, n in (("train", 6), ("val", 3)) for i in range(n))
    put(tmp_path / "s" / "files.csv", "split,row,class,patient\n" + rows)
    recipe = Recipe(
        classes=["x", "y", "z"],
        splits=Splits(make={"test": {"share": 0.5}}),
        tables=[LabelTable(file="files.csv", id=["split", "row"], label="class", group="patient")],
    )
    pack(tmp_path / "s", tmp_path / "out", recipe, processes=1)
    rows_by = by_path(tmp_path / "out")
    assert rows_by["train/3"]["group"] == "p1train"
    assert rows_by["train/2"]["split"] == rows_by["train/3"]["split"]


def test_labels_without_names_are_numbers_in_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays({"train": 24}, classes=12))
    pack(tmp_path / "x.npz", tmp_path / "out", processes=1)
    assert read_manifest(tmp_path / "out").classes == [str(i) for i in range(12)]


def test_unlabelled_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=arrays({"train": 5})["train_images"])
    pack(tmp_path / "x.npz", tmp_path / "out", processes=1)
    assert {r["label"] for r in rows_of(tmp_path / "out")} == {-1}
    assert read_manifest(tmp_path / "out").classes == []


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda d: {"x": d["train_images"]}, UsageError, "no array is called"),
        (lambda d: {"train_images": d["train_images"][..., None]}, UsageError, "shape"),
        (lambda d: {**d, "train_labels": np.zeros((6, 14))}, UsageError, "one class per image"),
        (lambda d: {**d, "train_labels": np.array([{}] * 6)}, DataError, "damaged"),
        (lambda d: {"train_images": d["train_images"].astype(np.float32) * 9}, BadSamplesError, "no image|dimensions"),
    ],
    ids=["no-images", "volumes", "multi-label", "pickled", "float-colour"],
)
def test_what_is_no_medmnist_file(tmp_path: Path, change, error, words: str) -> None:
    np.savez(tmp_path / "x.npz", **change(arrays({"train": 6})))
    with pytest.raises(error, match=words):
        pack(tmp_path / "x.npz", tmp_path / "out", processes=1)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", **arrays({"train": 50}))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DataError):
        pack(tmp_path / "x.npz", tmp_path / "out", processes=1)
    (tmp_path / "x.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError):
        pack(tmp_path / "x.npz", tmp_path / "out", processes=1)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("shape", [(10**12, 28, 28), (10**12, 0, 28), (6, 10**6, 10**6)])
@pytest.mark.parametrize("name", ["train_images", "train_labels"])
def test_a_header_that_promises_more_than_there_is_costs_no_memory(tmp_path: Path, name: str, shape) -> None:
    liar = io.BytesIO()
    np.lib.format.write_array_header_1_0(liar, {"descr": "|u1", "fortran_order": False, "shape": shape})
    np.savez(tmp_path / "good.npz", **arrays({"train": 6}))
    with zipfile.ZipFile(tmp_path / "good.npz") as good, zipfile.ZipFile(tmp_path / "x.npz", "w") as out:
        for entry in good.namelist():
            out.writestr(entry, liar.getvalue() if entry == f"{name}.npy" else good.read(entry))
    (tmp_path / "good.npz").unlink()
    with pytest.raises((DataError, UsageError), match=r"damaged|shape"):
        pack(tmp_path / "x.npz", tmp_path / "out", processes=1)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_a_file_that_is_not_the_official_one_is_told(tmp_path: Path) -> None:
    arrays = {"train_images": np.zeros((4, 8, 8), np.uint8), "train_labels": np.array([0, 1, 0, 1])}
    arrays["train_images"] += np.arange(4, dtype=np.uint8)[:, None, None]
    np.savez(tmp_path / "x.npz", **arrays)
    md5 = hashlib.md5((tmp_path / "x.npz").read_bytes()).hexdigest()
    release = {"name": "X 1", "splits": {"train": 4}, "md5": {"x.npz": md5}}
    notes = [
        read_source(tmp_path / "x.npz", Recipe.model_validate({"official": [r]})).arranged.notes
        for r in (release, {**release, "splits": {"train": 5, "val": 1}, "md5": {"x.npz": "0" * 32}})
    ]
    assert notes == [
        [],
        [
            f"x.npz is not the official file of X 1: its md5 is {md5}, not {'0' * 32}, "
            "train has 4 images instead of 5, val has 0 images instead of 1"
        ],
    ]


def test_a_release_in_the_recipe_changes_no_dataset(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=np.arange(256, dtype=np.uint8).reshape(4, 8, 8))
    first = pack(tmp_path / "x.npz", tmp_path / "out", processes=1)
    recipe = Recipe.model_validate({"official": [{"name": "X", "splits": {"train": 4}, "md5": {}}]})
    again = pack(tmp_path / "x.npz", tmp_path / "out", recipe, processes=1)
    assert (again.unchanged, again.digest) == (True, first.digest)
