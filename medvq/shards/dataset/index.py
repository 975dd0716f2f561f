"""Write `index.parquet`: a row per sample, in the order of the shards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medvq.shards.dataset.tar import Member

if TYPE_CHECKING:
    import pyarrow as pa

MEMBERS = ("image", "mask", "cls", "json")
Places = dict[str, npt.NDArray[np.int64]]
"""For each of MEMBERS an array (samples, 3) of offset, length and crc32. The offset of a missing member is -1."""
CODED = ("split", "ext")
"""Columns with few different values, stored as dictionaries."""
FIELDS = ("key", "split", "label", "group", "shard", "ext", "sha256", "mask_sha256", "width", "height", "rank")
"""Columns that are fields of `Row`."""
COLUMNS = (
    *FIELDS[:5],
    *(f"{name}_{what}" for name in MEMBERS for what in ("offset", "length", "crc32")),
    *FIELDS[5:10],
    "has_mask",
    "rank",
)


@dataclass
class Row:
    """One sample."""

    key: str
    split: str
    label: int
    """-1 if the sample has no label."""
    group: str | None
    ext: str
    sha256: str
    """Of the source file."""
    mask_sha256: str | None
    width: int
    height: int
    shard: int = -1
    """Position of its shard in the manifest."""
    rank: int = -1
    """Position within its class in the ranking of the train split; -1 in other splits."""


def places_of(members: Sequence[Mapping[str, Member]]) -> Places:
    """Return where the members of each sample lie."""
    absent = Member(-1, 0, 0)
    return {
        name: np.array([m.get(name, absent) for m in members], np.int64).reshape(len(members), 3) for name in MEMBERS
    }


def columns_of(rows: Sequence[Row]) -> dict[str, pa.Array]:
    """Return the columns of the index, except for those that say where members lie."""
    import pyarrow as pa

    kinds = {"label": pa.int16(), "shard": pa.int32(), "width": pa.int32(), "height": pa.int32(), "rank": pa.int32()}
    out = {name: pa.array([getattr(r, name) for r in rows], kinds.get(name, pa.string())) for name in FIELDS}
    return {name: column.dictionary_encode() if name in CODED else column for name, column in out.items()}


def write_index(path: Path, columns: Mapping[str, pa.Array], places: Sequence[Places]) -> tuple[int, str]:
    """Write the index.

    Args:
        path: the file.
        columns: as of `columns_of`, in the order of the shards.
        places: where members lie, for each shard.

    Returns:
        Bytes and sha256 of the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = dict(columns)
    for name in MEMBERS:
        offset, length, crc32 = np.concatenate([p[name] for p in places]).T
        whole |= {
            f"{name}_offset": pa.array(offset),
            f"{name}_length": pa.array(length),
            f"{name}_crc32": pa.array(crc32.astype(np.uint32)),
        }
    whole["has_mask"] = pa.array(np.concatenate([p["mask"][:, 0] for p in places]) >= 0)
    pq.write_table(pa.table({name: whole[name] for name in COLUMNS}), path, compression="zstd", row_group_size=1 << 17)
    data = path.read_bytes()
    return len(data), hashlib.sha256(data).hexdigest()
