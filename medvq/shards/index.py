"""`index.parquet`: a row per sample, in the order of the shards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from medvq.shards.tarball import Member

MEMBERS = ("image", "mask", "cls", "json")


@dataclass
class Row:
    """One sample."""

    key: str
    split: str
    label: int
    """-1 without one."""
    group: str | None
    ext: str
    sha256: str
    """Of the source file."""
    mask_sha256: str | None
    width: int
    height: int
    shard: int = -1
    """Place of its shard in the manifest."""
    rank: int = -1
    """Place in its class of the train split; -1 elsewhere."""
    members: dict[str, Member] = field(default_factory=dict)


def write_index(path: Path, rows: list[Row]) -> tuple[int, str]:
    """Write the index; returns its bytes and sha256."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def plain(name: str, kind: pa.DataType) -> pa.Array:
        return pa.array([getattr(r, name) for r in rows], kind)

    def coded(name: str) -> pa.Array:
        return pa.array([getattr(r, name) for r in rows], pa.string()).dictionary_encode()

    columns = {
        "key": plain("key", pa.string()),
        "split": coded("split"),
        "label": plain("label", pa.int16()),
        "group": plain("group", pa.string()),
        "shard": plain("shard", pa.int32()),
    }
    absent = Member(-1, 0, 0)
    for name in MEMBERS:
        members = [r.members.get(name, absent) for r in rows]
        columns[f"{name}_offset"] = pa.array([m.offset for m in members], pa.int64())
        columns[f"{name}_length"] = pa.array([m.length for m in members], pa.int64())
        columns[f"{name}_crc32"] = pa.array([m.crc32 for m in members], pa.uint32())
    columns |= {
        "ext": coded("ext"),
        "sha256": plain("sha256", pa.string()),
        "mask_sha256": plain("mask_sha256", pa.string()),
        "width": plain("width", pa.int32()),
        "height": plain("height", pa.int32()),
        "has_mask": pa.array(["mask" in r.members for r in rows], pa.bool_()),
        "rank": plain("rank", pa.int32()),
    }
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=1 << 17)
    data = path.read_bytes()
    return len(data), hashlib.sha256(data).hexdigest()
