"""With ten million samples, opening, ordering an epoch and resuming take seconds and a few hundred MB."""

import binascii
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SHARD_SAMPLES = 10_000


def simulate(dest: Path, samples: int, write_manifest_of) -> Path:
    """A dataset without shards: its index and manifest."""
    dest.mkdir()
    rng = np.random.default_rng(0)
    block, writer = 500_000, None
    for start in range(0, samples, block):
        n = min(block, samples - start)
        at = np.arange(start, start + n)
        columns = {
            "key": pa.array([f"c/{i:08d}" for i in at]),
            "split": pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), ["train"]),
            "label": pa.array((at % 10).astype(np.int16)),
            "group": pa.nulls(n, pa.string()),
            "shard": pa.array((at // SHARD_SAMPLES).astype(np.int32)),
        }
        columns["ext"] = pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), ["jpg"])
        for member in ("image", "mask", "cls", "json"):
            columns[f"{member}_offset"] = pa.array(at % SHARD_SAMPLES * 16384 + 512)
            columns[f"{member}_length"] = pa.array(rng.integers(9_000, 15_000, n))
            columns[f"{member}_crc32"] = pa.array(rng.integers(0, 1 << 32, n).astype(np.uint32))
        digits = binascii.hexlify(rng.bytes(32 * n))
        offsets = pa.py_buffer((np.arange(n + 1, dtype=np.int32) * 64).tobytes())
        columns["sha256"] = pa.StringArray.from_buffers(n, offsets, pa.py_buffer(digits))
        columns["mask_sha256"] = pa.nulls(n, pa.string())
        columns["has_mask"] = pa.array(np.zeros(n, bool))
        columns["rank"] = pa.array((at // 10).astype(np.int32))
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(dest / "index.parquet", table.schema)
        writer.write_table(table)
    writer.close()
    shards = [
        {"file": f"train-{i:06d}.tar", "split": "train", "samples": SHARD_SAMPLES, "bytes": 1, "sha256": "0" * 64}
        for i in range(-(-samples // SHARD_SAMPLES))
    ]
    write_manifest_of(dest, counts={"train": [samples // 10] * 10}, shards=shards)
    return dest


PROBE = """
    import json, resource, sys, time
    import numpy, torch, pyarrow.parquet
    from medvq.shards.dataset.dataset import Dataset
    from medvq.shards.load.loader import Loader
    from medvq.shards.load.reader import Reader
    from medvq.shards.load.view import View, ViewPart

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before, out, clock = peak(), {}, time.perf_counter()

    def lap(name):
        global clock
        out[name], clock = time.perf_counter() - clock, time.perf_counter()

    view = View(parts=(ViewPart(dataset=Dataset.open(sys.argv[1])),), size=(64, 64), **json.loads(sys.argv[2]))
    loader = Loader(view, 1000, 0, rank=1, world=4)
    out["samples"] = len(view)
    lap("open")
    Reader(view)
    lap("columns")
    loader.epoch(0)
    lap("order")
    loader.epoch(3, loader.steps_per_epoch - 2)
    lap("resume")
    out["MB"] = peak() - before
    print(json.dumps(out))
"""


@pytest.fixture
def dataset(tmp_path, write_manifest_of):
    yield simulate(tmp_path / "big", 10_000_000, write_manifest_of)
    shutil.rmtree(tmp_path / "big")  # a gigabyte, which pytest would keep


@pytest.mark.slow
def test_ten_million_samples(dataset):
    for options in ({}, {"subset": 10}, {"balance": "class"}):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROBE), str(dataset), json.dumps(options)],
            capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": os.getcwd()},
        )  # fmt: skip
        seen = json.loads(done.stdout)
        print(options, {k: round(v, 2) for k, v in seen.items()})
        assert seen["open"] + seen["columns"] + seen["order"] < 30
        assert seen["resume"] < 10
        assert seen["MB"] < 900
