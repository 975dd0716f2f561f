"""The synthetic smear: the same bytes every time, complete or absent, and usable by a study."""

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvq.errors import MedvqError, UsageError
from medvq.shards.synth import slide as scene
from medvq.shards.synth import smear
from medvq.shards.synth.cells import CLASSES, BloodCell
from medvq.shards.synth.shapes import Grid, Stream, noise, optics, spots

SMALL = {"samples": 40, "size": 32, "seed": 3}


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    dest = tmp_path_factory.mktemp("smear") / "a"
    smear.smear(dest, **SMALL)
    return dest


def test_the_same_bytes_again_and_others_for_another_seed(drawn, tmp_path):
    smear.smear(tmp_path / "same", **SMALL)
    smear.smear(tmp_path / "other", **{**SMALL, "seed": 4})
    assert tree(tmp_path / "same") == tree(drawn)
    assert not set(tree(tmp_path / "other").values()) & set(tree(drawn).values())


def test_layout_and_report(drawn, tmp_path):
    report = smear.smear(tmp_path / "b", **SMALL)
    files = [f for f in tree(drawn) if f.endswith(".png")]
    pattern = r"(train|val|test)/data/(\w+)/P\d{3}_\d{4}\.png|train/mask/(\w+)/P\d{3}_\d{4}\.png"
    assert all(re.fullmatch(pattern, f) for f in files)
    assert {f for f in tree(drawn) if not f.endswith(".png")} == {"README.txt", "patients.csv"}
    counts = Counter(tuple(f.split("/")[:3]) for f in files)
    for split, facts in report["splits"].items():
        assert facts["classes"] == {c: counts[split, "data", c] for c in smear.SHARES}
        assert facts["masks"] == sum(counts[split, "mask", c] for c in smear.SHARES)
    assert report["drawn"] == SMALL["samples"] == sum(f["samples"] for f in report["splits"].values())
    assert not list(tmp_path.glob(".*"))


def test_every_mask_has_its_image_and_its_cell_holds_its_nucleus(drawn):
    for path in (drawn / "train" / "mask").rglob("*.png"):
        mask = np.asarray(Image.open(path))
        image = Image.open(str(path).replace("/mask/", "/data/"))
        assert image.mode == "RGB"
        assert image.size == mask.shape == (32, 32)
        assert set(np.unique(mask)) == {0, 128, 255}
        for axis in (0, 1):
            cell, nucleus = (np.flatnonzero((mask >= level).any(axis=axis)) for level in (128, 255))
            assert cell[0] <= nucleus[0] <= nucleus[-1] <= cell[-1]


@pytest.mark.parametrize("cell", CLASSES)
def test_the_nucleus_is_dark_and_the_cell_is_not_the_background(cell):
    for index in range(4):
        image, mask = scene.draw(0, index, cell, "P001", 64)
        level = [float(image[mask == m].mean()) for m in (scene.NUCLEUS, scene.CYTOPLASM, scene.BACKGROUND)]
        assert level[0] < level[1] < level[2]


def test_patients_stay_in_one_split_and_the_table_says_so(drawn):
    with (drawn / "patients.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert {r["file"] for r in rows} == {f for f in tree(drawn) if "/data/" in f}
    assert all(r["file"].split("/")[3].startswith(r["patient"] + "_") for r in rows)
    splits: dict[str, set[str]] = {}
    for r in rows:
        splits.setdefault(r["patient"], set()).add(r["split"])
    assert all(len(s) == 1 for s in splits.values())
    assert len(splits) > 3


@pytest.mark.parametrize(("samples", "least"), [(30, 2), (100, 2), (400, 4), (2000, 5)])
def test_every_class_is_in_every_split_and_neutrophils_lead(samples, least):
    images = smear.plan(samples, 0)
    counts = Counter((i.split, i.cell) for i in images)
    assert len(images) == samples == len({i.path("data") for i in images})
    assert min(counts[s, c] for s in smear.SPLITS for c in smear.SHARES) >= least
    masks = Counter(i.cell for i in images if i.mask)
    assert {i.split for i in images if i.mask} == {"train"}
    for cell in smear.SHARES:
        assert abs(masks[cell] - counts["train", cell] / 10) <= 1
    if samples >= 400:
        assert 0.55 < sum(i.cell == "neutrophil" for i in images) / samples < 0.65


def test_an_image_does_not_depend_on_what_was_drawn_before():
    alone = scene.draw(5, 7, "monocyte", "P002", 32)
    scene.draw(5, 6, "basophil", "P001", 32)
    again = scene.draw(5, 7, "monocyte", "P002", 32)
    assert all(np.array_equal(a, b) for a, b in zip(alone, again, strict=True))


def test_images_of_a_patient_differ_beside_the_cell_too():
    masks, corners = [], []
    for index in range(4):
        image, mask = scene.draw(0, index, "neutrophil", "P001", 32)
        corners.append(image[:6, :6][mask[:6, :6] == scene.BACKGROUND].tobytes())
        masks.append(int(np.flatnonzero((mask > 0).any(axis=0)).mean()))
    assert len(set(corners)) == 4
    assert len(set(masks)) > 1


def test_a_nucleus_too_large_for_its_cell_is_cut_at_the_rim():
    body = BloodCell(radius=4.0, lobes=[(3.0, 0.0, 4.0)], cytoplasm=(0.0, 0.5, 0.2, 0.0))
    grid = Grid(n=128, width=22.0)
    inside, nucleus = scene._white_cell(np.zeros((4, 128, 128)), Stream(0), grid, body, 0.5, -0.5)
    assert nucleus.max() > 0.99
    assert (nucleus <= inside + 1e-9).all()


def test_a_whole_tree_is_not_drawn_again(drawn, monkeypatch):
    monkeypatch.setattr(smear, "_write", lambda *_: pytest.fail("drawn again"))
    assert smear.smear(drawn, **SMALL)["drawn"] == 0


def test_a_killed_drawing_goes_on_and_ends_the_same(drawn, tmp_path):
    def stop(_stage: str, done: int, _total: int) -> None:
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        smear.smear(tmp_path / "c", **SMALL, progress=stop)
    assert not (tmp_path / "c").exists()
    (part,) = tmp_path.glob(".c.*.part")
    (part / "train" / "data" / "monocyte" / ".torn.png.1").write_bytes(b"half of")
    assert smear.smear(tmp_path / "c", **SMALL)["drawn"] == 15
    assert tree(tmp_path / "c") == tree(drawn)


@pytest.mark.parametrize("change", [{"seed": 9}, {"samples": 41}, {"size": 40}])
def test_another_tree_is_refused_and_left_alone(drawn, change):
    before = tree(drawn)
    with pytest.raises(UsageError):
        smear.smear(drawn, **{**SMALL, **change})
    assert tree(drawn) == before


def test_a_tree_with_a_missing_image_is_refused(tmp_path):
    smear.smear(tmp_path / "d", **SMALL)
    next((tmp_path / "d" / "val" / "data").rglob("*.png")).unlink()
    with pytest.raises(UsageError, match="something else"):
        smear.smear(tmp_path / "d", **SMALL)


def test_an_empty_folder_is_filled_and_a_file_refused(drawn, tmp_path):
    (tmp_path / "empty").mkdir()
    smear.smear(tmp_path / "empty", **SMALL)
    assert tree(tmp_path / "empty") == tree(drawn)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError):
        smear.smear(tmp_path / "file", **SMALL)


def test_a_folder_that_cannot_be_made_is_an_error_for_people(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MedvqError, match="cannot") as e:
        smear.smear(tmp_path / "file" / "under", **SMALL)
    assert e.value.code == 1


@pytest.mark.parametrize("bad", [{"samples": 29}, {"samples": 10**9}, {"size": 8}, {"size": 4096}])
def test_numbers_out_of_range_are_usage(tmp_path, bad):
    with pytest.raises(UsageError):
        smear.smear(tmp_path / "e", **{**SMALL, **bad})


def test_draws_are_uniform_normal_and_keyed_by_purpose():
    u, z = Stream(0, "a").uniforms(20_000), Stream(0, "a").normals(20_001)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01
    assert len(z) == 20_001
    assert abs(z.mean()) < 0.03
    assert abs(z.std() - 1) < 0.03
    assert not np.array_equal(Stream(0, "b").uniforms(5), u[:5])


def test_optics_keep_brightness_and_spots_their_place():
    flat = np.full((64, 64, 3), 0.7)
    np.testing.assert_allclose(optics(flat, 32, 2.0), 0.7)
    grid = Grid(n=64, width=16.0)
    field = spots(grid, np.array([2.1, -30.0]), np.array([-3.9, 0.0]), np.array([0.5, 0.5]), np.array([1.0, 1.0]))
    row, col = np.unravel_index(field.argmax(), field.shape)
    assert (grid.axis()[col], grid.axis()[row]) == (pytest.approx(2.1, abs=0.25), pytest.approx(-3.9, abs=0.25))
    assert 0.6 < noise(Stream(1), grid, 1.0).std() < 1.6
