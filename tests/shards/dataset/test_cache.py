"""Copies of datasets on a node's own disk: complete, checked, made once."""

import os
import threading

import pytest

from medvq.errors import DataError, MedvqError, NotFoundError
from medvq.shards.dataset.cache import stage
from medvq.shards.dataset.dataset import Dataset


def files(path):
    return {p.name: p.read_bytes() for p in path.iterdir()}


def test_a_copy_is_the_dataset_and_is_made_once(tiny_dataset, tmp_path):
    calls = []
    copy = stage(tiny_dataset, tmp_path / "cache", progress=lambda *a: calls.append(a))
    assert files(copy) == files(tiny_dataset)
    assert calls[-1][1] == calls[-1][2] == sum(len(b) for n, b in files(copy).items() if n != "manifest.json")
    times = {p: p.stat().st_mtime_ns for p in copy.iterdir()}
    assert stage(tiny_dataset, tmp_path / "cache", progress=lambda *a: pytest.fail("copied again")) == copy
    assert {p: p.stat().st_mtime_ns for p in copy.iterdir()} == times
    assert Dataset.open(copy).read(3) == Dataset.open(tiny_dataset).read(3)


def test_a_copy_that_lost_a_file_is_completed(tiny_dataset, tmp_path):
    copy = stage(tiny_dataset, tmp_path / "cache")
    first = sorted(copy.glob("*.tar"))[0]
    os.truncate(first, 512)
    (copy / "index.parquet").unlink()
    assert files(stage(tiny_dataset, tmp_path / "cache")) == files(tiny_dataset)


def test_a_damaged_source_is_refused_and_leaves_no_dataset(tiny_dataset, tmp_path):
    shard = sorted(tiny_dataset.glob("*.tar"))[1]
    raw = bytearray(shard.read_bytes())
    raw[700] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(DataError, match="not the one that the manifest names") as e:
        stage(tiny_dataset, tmp_path / "cache")
    assert e.value.where == str(shard)
    (copy,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    with pytest.raises(NotFoundError):
        Dataset.open(copy)
    assert not list(copy.glob("*.part"))


def test_many_at_once_make_one_copy(tiny_dataset, tmp_path):
    copied, out = [], []
    threads = [
        threading.Thread(
            target=lambda: out.append(stage(tiny_dataset, tmp_path / "cache", progress=lambda *a: copied.append(a[0])))
        )
        for _ in range(6)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(out)) == 1
    assert sorted(copied) == sorted(n for n in files(tiny_dataset) if n != "manifest.json")


def test_no_room_and_no_folder_are_clear_errors(tiny_dataset, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(MedvqError, match="cannot be staged"):
        stage(tiny_dataset, tmp_path / "file" / "cache")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("U", (), {"free": 10})())
    with pytest.raises(MedvqError, match="GB are free"):
        stage(tiny_dataset, tmp_path / "cache")
