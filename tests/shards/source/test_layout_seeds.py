"""Recipes of sets that are not available here, on folders with the names of the published sets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from real_sets import SETS
from trees import encode, picture, pixels, put

from medvq.config.recipe import load_recipe
from medvq.shards.dataset.summary import describe
from medvq.shards.pack.pack import pack
from medvq.shards.source.resolve import ResolvedSource, read_source

SHARDS = Path(__file__).resolve().parents[3] / "shards"


def read(name: str, root: Path) -> ResolvedSource:
    return read_source(root, load_recipe(SHARDS / f"{name}.yaml"))


def samples(understood: ResolvedSource) -> Counter[tuple[str, str | None, str | None]]:
    assert understood.arranged.bad == []
    return Counter((s.split, s.label, s.group) for s in understood.arranged.samples)


@pytest.mark.parametrize(
    ("name", "folder", "prefix"), [("oasis", "slices", "case"), ("oasis-seg", "slices_seg", "seg")]
)
def test_oasis_by_subject(tmp_path: Path, name: str, folder: str, prefix: str) -> None:
    for split, cases in (("train", (1, 2)), ("validate", (402,)), ("test", (441,))):
        for case in cases:
            for i in range(2):
                where = tmp_path / f"keras_png_{folder}_{split}" / f"{prefix}_{case:03d}_slice_{i}.nii.png"
                picture(where, case * 10 + i, channels=1)
        other = "seg" if prefix == "case" else "case"
        picture(tmp_path / f"keras_png_slices_{'seg_' * (other == 'seg')}{split}" / f"{other}_001_slice_0.nii.png", 5)
    found = samples(read(name, tmp_path))
    assert found == {
        ("train", None, "001"): 2, ("train", None, "002"): 2, ("val", None, "402"): 2, ("test", None, "441"): 2
    }  # fmt: skip


def test_adni_by_patient_at_240_by_256(tmp_path: Path) -> None:
    for label, name in enumerate(("AD", "NC")):
        for patient in range(20):
            for i in range(3):
                split = "test" if patient < 4 else "train"
                where = tmp_path / "src" / "AD_NC" / split / name / f"{218000 + 100 * label + patient}_{78 + i}.jpeg"
                picture(where, 1000 * label + 10 * patient + i, channels=1, size=(24, 25))
    pack(tmp_path / "src", tmp_path / "out", load_recipe(SHARDS / "adni.yaml"), processes=1)
    found = describe(tmp_path / "out")
    assert found["classes"] == ["NC", "AD"]
    assert {n: (s["samples"], s["groups"]) for n, s in found["splits"].items()} == {
        "train": (84, 28), "val": (12, 4), "test": (24, 8)
    }  # fmt: skip
    assert (found["image"]["height"], found["image"]["width"], found["image"]["channels"]) == (240, 256, 1)
    assert found["leaks"] == {"checked": ["bytes", "group"], "found": [], "allowed": False}


def test_all_with_its_bracketed_folders(tmp_path: Path) -> None:
    for i, name in enumerate(("Benign", "[Malignant] early Pre-B", "[Malignant] Pre-B", "[Malignant] Pro-B")):
        picture(tmp_path / name / "Sap_001 (1).jpg", i)
    found = read("all", tmp_path)
    assert {s.label for s in found.arranged.samples} == {"benign", "early", "pre", "pro"}
    assert found.arranged.classes == ["benign", "early", "pre", "pro"]
    assert found.recipe.size == (256, 256)


def test_ham10000_by_lesion(tmp_path: Path) -> None:
    rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for i, dx in enumerate(["mel", "nv", "bcc", "akiec", "bkl", "df", "vasc", "nv"]):
        picture(tmp_path / f"HAM10000_images_part_{1 + i % 2}" / f"ISIC_{24306 + i:07d}.jpg", i)
        rows.append(f"HAM_{i // 2:07d},ISIC_{24306 + i:07d},{dx},histo,80.0,male,scalp")
    put(tmp_path / "HAM10000_metadata.csv", "\n".join(rows))
    picture(tmp_path / "masks" / "ISIC_0024306_segmentation.png", 90)
    found = read("ham10000", tmp_path)
    assert found.arranged.classes == ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    assert samples(found)["train", "NV", "HAM_0000003"] == 1
    assert len(found.arranged.samples) == 8


def test_cam16_and_prcc(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for name in ("normal", "tumor"):
            picture(tmp_path / "cam" / split / "data" / name / "1.png", len(split) * 10 + len(name))
    put(tmp_path / "cam" / "train" / "mask" / "tumor" / "1.png", encode(pixels(1, channels=1)))
    found = read("cam16", tmp_path / "cam")
    assert samples(found).total() == 6
    assert [s.path for s in found.arranged.samples if s.mask] == ["train/data/tumor/1.png"]
    for i, where in enumerate(["a.png", "train/data/b.png", "x/y/z/c.png"]):
        picture(tmp_path / "prcc" / where, i)
    assert samples(read("prcc", tmp_path / "prcc")) == {("train", None, None): 3}


def test_lesions_stay_in_one_split_and_classes_keep_their_shares(tmp_path: Path) -> None:
    rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for i in range(120):  # 60 lesions, two images each
        put(tmp_path / "src" / "HAM10000_images_part_1" / f"ISIC_{i:07d}.jpg", encode(pixels(i), "JPEG"))
        rows.append(f"HAM_{i // 2:07d},ISIC_{i:07d},{'nv' if i < 80 else 'mel'},histo,80.0,male,scalp")
    put(tmp_path / "src" / "HAM10000_metadata.csv", "\n".join(rows))
    pack(tmp_path / "src", tmp_path / "out", load_recipe(SHARDS / "ham10000.yaml"), processes=1)
    found = describe(tmp_path / "out")
    assert {n: (s["samples"], s["groups"], s["classes"]["NV"]) for n, s in found["splits"].items()} == {
        "train": (96, 48, 64), "val": (12, 6, 8), "test": (12, 6, 8)
    }  # fmt: skip
    assert found["leaks"] == {"checked": ["bytes", "group"], "found": [], "allowed": False}
    assert (found["image"]["height"], found["image"]["width"]) == (256, 256)


def test_all_is_split_70_to_30(tmp_path: Path) -> None:
    for k, name in enumerate(("Benign", "[Malignant] early Pre-B", "[Malignant] Pre-B", "[Malignant] Pro-B")):
        for i in range(10):
            picture(tmp_path / "src" / name / f"{i}.jpg", 100 * k + i)
    report = pack(tmp_path / "src", tmp_path / "out", load_recipe(SHARDS / "all.yaml"), processes=1)
    assert report.splits == {"train": 28, "test": 12}


# Classes and shape of an image, as MedMNIST's `info.py` has them.
MEDMNIST = {
    "bloodmnist": (8, (28, 28, 3)), "dermamnist": (7, (28, 28, 3)), "pathmnist": (9, (28, 28, 3)),
    "breastmnist": (2, (28, 28)), "pneumoniamnist": (2, (28, 28)), "octmnist": (4, (28, 28)),
    "retinamnist": (5, (28, 28, 3)), "tissuemnist": (8, (28, 28)), "organamnist": (11, (28, 28)),
    "organcmnist": (11, (28, 28)), "organsmnist": (11, (28, 28)),
}  # fmt: skip


@pytest.mark.parametrize("name", MEDMNIST)
def test_medmnist_files(tmp_path: Path, name: str) -> None:
    classes, shape = MEDMNIST[name]
    arrays, rng = {}, np.random.default_rng(0)
    for split, n in (("train", 2 * classes), ("val", classes), ("test", classes)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n, dtype=np.uint8) % classes)[:, None]
    np.savez_compressed(tmp_path / f"{name}.npz", **arrays)
    report = pack(tmp_path / f"{name}.npz", tmp_path / "out", load_recipe(SHARDS / f"{name}.yaml"), processes=1)
    found = describe(tmp_path / "out")
    assert report.splits == {"train": 2 * classes, "val": classes, "test": classes}
    assert len(found["classes"]) == classes
    assert set(found["splits"]["test"]["classes"].values()) == {1}
    assert f"{name}.npz is not the official file of MedMNIST" in report.notes[0]
    assert found["image"]["channels"] == (1 if len(shape) == 2 else 3)


def test_every_shipped_recipe_has_a_test() -> None:
    by_hand = {"oasis", "oasis-seg", "adni", "all", "ham10000", "cam16", "prcc", "raabin-wbc", "smear", "quickstart"}
    assert {p.stem for p in SHARDS.glob("*.yaml")} == {*SETS, *MEDMNIST, *by_hand}
