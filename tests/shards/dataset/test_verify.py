from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from trees import course, encode, facts, picture, pixels, put, rows_of

from medvq.cli.packing import inspect_text
from medvq.config.recipe import Recipe
from medvq.errors import DataError, NotFoundError, UsageError
from medvq.shards.dataset import summary
from medvq.shards.dataset.tar import BLOCK
from medvq.shards.dataset.verify import Finding, verify
from medvq.shards.pack.pack import pack

MEMBERS = {"image": ".png", "mask": ".mask.png", "cls": ".cls", "json": ".json"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verify")
    course(root / "wbc", {"train": {"a": 12, "b": 9}, "val": {"a": 4, "b": 3}})
    pack(root / "wbc", root / "out", Recipe(shard_samples=8), processes=1)
    return root / "out"


@pytest.fixture
def dataset(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "dataset"))


def flip(path: Path, at: int, bit: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def test_a_good_dataset_has_no_findings(dataset: Path) -> None:
    assert verify(dataset) == []
    assert verify(dataset, deep=True) == []


def test_what_is_no_dataset(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(NotFoundError):
            verify(missing)


def test_every_flipped_byte_of_every_kind_of_file_is_found(dataset: Path) -> None:
    draw = random.Random(7)
    for file in sorted(p.name for p in dataset.iterdir()):
        path = dataset / file
        before = path.read_bytes()
        for at in [0, 1, len(before) - 1, *(draw.randrange(len(before)) for _ in range(40))]:
            flip(path, at, draw.randrange(8))
            findings = verify(dataset)
            assert findings, f"{file} byte {at}"
            assert {f.shard for f in findings} == {file}
            path.write_bytes(before)
    assert verify(dataset) == []


@pytest.mark.parametrize("member", MEMBERS)
def test_the_damaged_member_is_named(dataset: Path, member: str) -> None:
    row = next(r for r in rows_of(dataset) if r["split"] == "train" and r["has_mask"])
    name = row["key"] + MEMBERS[member]
    manifest = json.loads((dataset / "manifest.json").read_text())
    shard = manifest["shards"][row["shard"]]["file"]
    for at, what in (
        (row[f"{member}_offset"], "the bytes of"),
        (row[f"{member}_offset"] - BLOCK + 101, "the tar header of"),
    ):
        flip(dataset / shard, at)
        assert verify(dataset) == [
            Finding(shard, row["key"], f"{what} {name} {'are' if 'bytes' in what else 'is'} damaged")
        ]
        flip(dataset / shard, at)


def test_a_cut_at_a_member_boundary_is_found(dataset: Path) -> None:
    shard = dataset / "train-000000.tar"
    with tarfile.open(shard) as tar:
        cut = tar.getmembers()[-4].offset
    os.truncate(shard, cut)
    findings = verify(dataset)
    assert findings
    assert all(f.shard == "train-000000.tar" and f.key for f in findings)


def test_missing_swapped_and_unknown_shards_are_found(dataset: Path) -> None:
    a, b, c = (dataset / f"train-00000{i}.tar" for i in range(3))
    a.rename(dataset / "x")
    b.rename(a)
    (dataset / "x").rename(b)
    assert {(f.shard, f.key) for f in verify(dataset)} >= {(a.name, None), (b.name, None)}
    assert any("train-000001.tar should hold" in f.problem for f in verify(dataset))
    c.unlink()
    assert Finding(c.name, None, "the file is missing") in verify(dataset)
    shutil.copy(a, dataset / "train-000009.tar")
    assert Finding("train-000009.tar", None, "the manifest knows no such shard") in verify(dataset)


def test_a_changed_index_or_manifest_is_found(dataset: Path) -> None:
    text = (dataset / "manifest.json").read_text()
    for changed in (text.replace(" 21", " 22"), text + "\n", text[: len(text) // 2], "[]", "", "{}"):
        (dataset / "manifest.json").write_text(changed)
        assert [f.shard for f in verify(dataset)] == ["manifest.json"]
    (dataset / "manifest.json").write_text(text)
    (dataset / "index.parquet").unlink()
    assert [(f.shard, f.problem) for f in verify(dataset)] == [("index.parquet", "the file is missing")]


def test_deep_finds_what_checksums_cannot(tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard with right checksums and an image that was damaged before it was packed."""
    from medvq.shards.pack import write

    real = write.TarWriter.add

    def add(self: write.TarWriter, name: str, data: bytes, crc32: int | None = None) -> write.Member:
        return real(self, name, data[: len(data) // 2] if name.endswith(".png") and "_a_00" in name else data)

    monkeypatch.setattr(write.TarWriter, "add", add)
    course(tmp_path / "wbc", {"train": {"a": 3, "b": 3}})
    pack(tmp_path / "wbc", tmp_path / "out", processes=1)
    assert verify(tmp_path / "out") == []
    findings = verify(tmp_path / "out", deep=True)
    assert len(findings) == 3
    assert all("_a_00" in str(f.key) and "does not decode" in f.problem for f in findings)


def test_shards_are_plain_tars_without_owner_or_time(dataset: Path) -> None:
    for shard in dataset.glob("*.tar"):
        with tarfile.open(shard) as tar:
            for info in tar.getmembers():
                assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
                assert info.isreg()
                assert info.pax_headers == {}
        assert shard.stat().st_size % tarfile.RECORDSIZE == 0


def test_inspect_counts_sizes_and_the_classes_of_subsets(tmp_path: Path) -> None:
    for i in range(20):
        picture(tmp_path / "s" / "ab"[i < 4] / f"{i}.png", i, size=(16, 16 + max(0, i - 12)))
    recipe = Recipe(images=["{class}/{name}"], classes=["b", "a"])
    pack(tmp_path / "s", tmp_path / "out", recipe, processes=1)
    found = summary.describe(tmp_path / "out")
    assert found["sizes"] == [[16, 16, 13], *([16 + k, 16, 1] for k in range(1, 8))]
    assert found["subset_classes"] == {
        "100": {"b": 4, "a": 16}, "50": {"b": 2, "a": 8}, "10": {"b": 1, "a": 1}, "1": {"b": 1, "a": 1}
    }  # fmt: skip
    lines = inspect_text(found).splitlines()
    assert "20 images, 8 sizes" in lines[0]
    assert lines[1] == "width×height 16×16: 13, 17×16: 1, 18×16: 1, 19×16: 1, 20×16: 1, and 3 more sizes"
    assert ["50 % of train", "10", "2", "8"] in [re.split(r"\s{2,}", line.strip()) for line in lines]
    pack(tmp_path / "s", tmp_path / "one", Recipe(size=(8, 12)), processes=1)
    (tmp_path / "one" / "index.parquet").unlink()
    assert summary.describe(tmp_path / "one")["sizes"] == [[12, 8, 20]]


def test_inspect_counts_what_is_there_and_draws_it(dataset: Path, tmp_path: Path) -> None:
    found = summary.describe(dataset)
    json.dumps(found)
    assert found["samples"] == 28
    assert list(found["splits"]) == ["train", "val"]
    assert found["splits"]["train"] == {"samples": 21, "masks": 7, "groups": None, "classes": {"a": 12, "b": 9}}
    assert found["subsets"] == {"100": 21, "50": 10, "10": 2, "1": 2}
    from PIL import Image

    page = Image.open(summary.sheet(dataset, tmp_path / "sheet.png", per_class=2, tile=32))
    row = next(r for r in rows_of(dataset) if r["split"] == "train" and r["label"] == 0)
    first = page.crop((120, 14, 152, 46))
    path = facts(dataset, row)["path"]
    seed = 1 + int(path[-7:-4])
    wanted = Image.open(io.BytesIO(encode(pixels(seed)))).resize((32, 32), Image.Resampling.BILINEAR)
    differs = sum(a != b for a, b in zip(first.tobytes(), wanted.tobytes(), strict=True))
    assert differs < 32 * 32 * 3 * (0.4 if row["has_mask"] else 0.01)
    with pytest.raises(UsageError):
        summary.sheet(dataset, tmp_path / "sheet.pdf")


@pytest.mark.parametrize("harm", ["missing shard", "cut shard", "missing index", "cut index"])
def test_a_sheet_of_a_damaged_dataset_says_what_is_damaged(dataset: Path, tmp_path: Path, harm: str) -> None:
    how, what = harm.split()
    path = dataset / "index.parquet" if what == "index" else sorted(dataset.glob("train-*.tar"))[0]
    path.write_bytes(path.read_bytes()[:700]) if how == "cut" else path.unlink()
    with pytest.raises(DataError, match=r"the index|the shard|does not decode") as e:
        summary.sheet(dataset, tmp_path / "sheet.png")
    assert path.name in str(e.value.where)
    assert "verify" in str(e.value.hint)


def test_class_names_of_any_script_can_be_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, name in enumerate(["血液", "Zelle é", "plain"]):
        put(tmp_path / "s" / name / "1.png", encode(pixels(i)))
    pack(tmp_path / "s", tmp_path / "out", processes=1)
    told = []
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda self, at, text, **_: told.append(text))
    summary.sheet(tmp_path / "out", tmp_path / "sheet.png")
    assert told == ["train (3)", "Zelle e", "plain", "class 2"]


def test_files_that_a_file_manager_left_are_no_damage(tiny_dataset: Path) -> None:
    (tiny_dataset / "._train-000000.tar").write_bytes(b"\0\5\26\7")
    assert verify(tiny_dataset) == []
    (tiny_dataset / "train-000099.tar").write_bytes(b"")
    assert [f.shard for f in verify(tiny_dataset)] == ["train-000099.tar"]
