"""Datasets opened for reading: bytes are checked, and processes do not share open files."""

import os
import pickle
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from medvq.errors import DataError, NotFoundError
from medvq.shards.dataset.dataset import Dataset


def test_every_member_is_read_back(tiny_dataset):
    data = Dataset.open(tiny_dataset)
    assert len(data) == 22
    keys = data.keys(np.arange(22))
    for row, key in enumerate(keys):
        shard = data.manifest.shards[int(data.column("shard")[row])].file
        with tarfile.open(tiny_dataset / shard) as tar:
            for member, ext in (("image", "png"), ("cls", "cls")):
                assert data.read(row, member) == tar.extractfile(f"{key}.{ext}").read()
            if data.column("has_mask")[row]:
                assert data.read(row, "mask") == tar.extractfile(f"{key}.mask.png").read()
            else:
                with pytest.raises(DataError, match="has no mask"):
                    data.read(row, "mask")


def test_a_flipped_byte_is_an_error_that_names_shard_and_key(tiny_dataset):
    data = Dataset.open(tiny_dataset)
    shard = tiny_dataset / data.manifest.shards[0].file
    raw = bytearray(shard.read_bytes())
    raw[int(data.column("image_offset")[2]) + 5] ^= 1
    shard.write_bytes(raw)
    data.read(1)
    with pytest.raises(DataError, match="differs from what was packed") as e:
        data.read(2)
    assert shard.name in e.value.where
    assert data.keys(np.array([2]))[0] in e.value.where


def test_a_cut_or_missing_shard_is_an_error(tiny_dataset):
    data = Dataset.open(tiny_dataset)
    first, second = (tiny_dataset / s.file for s in data.manifest.shards[:2])
    os.truncate(first, first.stat().st_size - 512)
    second.unlink()
    with pytest.raises(DataError, match="bytes where the manifest says"):
        data.read(0)
    with pytest.raises(DataError, match="cannot be opened"):
        data.read(7)


def test_an_index_of_another_dataset_is_an_error(tiny_dataset, tmp_path, write_dataset):
    other = write_dataset(tmp_path / "other", counts={"train": (9, 5, 3), "val": (2, 2, 1)}, seed=1)
    (tiny_dataset / "index.parquet").write_bytes((other / "index.parquet").read_bytes())
    with pytest.raises(DataError, match="sha256 differs"):
        Dataset.open(tiny_dataset).column("label")
    (tiny_dataset / "index.parquet").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        Dataset.open(tiny_dataset).column("label")


def test_no_dataset(tmp_path):
    with pytest.raises(NotFoundError):
        Dataset.open(tmp_path)


def test_a_dataset_survives_pickle_and_fork(tiny_dataset):
    data = Dataset.open(tiny_dataset)
    wanted = [data.read(r) for r in range(22)]
    again = pickle.loads(pickle.dumps(data))
    assert [again.read(r) for r in range(22)] == wanted
    assert len(pickle.dumps(data)) < 10_000
    child = os.fork()
    if child == 0:
        try:
            ok = [data.read(r) for r in range(22)] == wanted
            data.close()
        finally:
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert data.read(3) == wanted[3]  # what the child closed is still open here


def test_few_files_stay_open(tmp_path, monkeypatch, write_dataset):
    monkeypatch.setattr("medvq.shards.dataset.dataset._OPEN_SHARDS", 3)
    data = Dataset.open(write_dataset(tmp_path / "d", counts={"train": (12,)}, size=(2, 2), shard_samples=1))
    before = len(os.listdir("/proc/self/fd"))
    for row in [*range(12), 0, 5]:
        data.read(row)
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    data.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_reading_does_not_import_torch_nor_opening_pyarrow(tiny_dataset):
    code = """
import importlib, sys
from medvq.shards.dataset.dataset import Dataset
for name in ("load.view", "load.select", "load.geometry", "load.decode", "load.reader", "load.buffers", "load.workers",
             "sampling.order", "dataset.cache", "dataset.columns"):
    importlib.import_module(f"medvq.shards.{name}")
data = Dataset.open(sys.argv[1])
assert not {"pyarrow", "PIL", "torch"} & sys.modules.keys(), sys.modules.keys()
data.read(0)
assert "torch" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tiny_dataset)], check=True, env=environment)
