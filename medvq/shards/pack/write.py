"""Write one shard from the examined parts. Runs in worker processes; a shard that exists is not written again."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from medvq.errors import DataError, MedvqError
from medvq.shards.dataset.index import MEMBERS, Places, places_of
from medvq.shards.dataset.tar import Member, TarWriter
from medvq.shards.image.bad import BadImage
from medvq.shards.image.strip import joined
from medvq.shards.pack.examine import Payload
from medvq.shards.source.base import Source


class ShardSample(NamedTuple):
    """What is needed to write the members of one sample."""

    key: str
    image: Payload
    path: str
    size: int
    ext: str
    label: int
    facts: dict[str, Any]
    """Content of KEY.json."""
    mask: Payload | None
    mask_path: str
    mask_size: int
    spool: str
    """The part's `.bin`."""


_facts = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class ShardTask:
    """A shard to write."""

    file: str
    out: str
    """Folder for the shard."""
    records: str
    """Folder for its record."""
    source: Source
    samples: list[ShardSample]


@dataclass(frozen=True)
class Written:
    """A shard that was written."""

    file: str
    samples: int
    bytes: int
    sha256: str
    places: Places
    """Where its members are."""


def write_shard(task: ShardTask) -> Written:
    """Write the shard and return its record; return the record only if the shard was written before.

    Raises:
        OSError: the workspace cannot be written.
        DataError: the source changed since it was examined.
    """
    done = recorded(task.file, task.out, task.records)
    if done:
        return done
    record, final = _paths(task.file, task.out, task.records)
    temporary = f"{final}.{os.getpid()}.tmp"
    spools: dict[str, BinaryIO] = {}
    try:
        with TarWriter(Path(temporary)) as tar:
            members = [_add(tar, sample, task.source, spools) for sample in task.samples]
            size, digest = tar.close()
    finally:
        for f in spools.values():
            f.close()
    os.replace(temporary, final)
    written = Written(task.file, len(task.samples), size, digest, places_of(members))
    row = {**vars(written), "places": {name: found.tolist() for name, found in written.places.items()}}
    Path(record + ".tmp").write_text(json.dumps(row), encoding="utf-8")
    os.replace(record + ".tmp", record)
    return written


def recorded(file: str, out: str, records: str) -> Written | None:
    """Return the record of a shard that was written before; None if there is none, or the shard was cut since.

    Args:
        file: name of the shard.
        out: folder of shards.
        records: folder of records.
    """
    record, final = _paths(file, out, records)
    try:
        row = json.loads(Path(record).read_text(encoding="utf-8"))
        if os.path.getsize(final) != row["bytes"]:
            return None
        places = {name: np.array(row["places"][name], np.int64).reshape(row["samples"], 3) for name in MEMBERS}
        return Written(**{**row, "places": places})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _paths(file: str, out: str, records: str) -> tuple[str, str]:
    return os.path.join(records, file + ".json"), os.path.join(out, file)


def _add(tar: TarWriter, sample: ShardSample, source: Source, spools: dict[str, BinaryIO]) -> dict[str, Member]:
    data = _bytes(sample.image, sample.path, sample.size, sample, source, spools)
    out = {"image": tar.add(f"{sample.key}.{sample.ext}", data, sample.image.crc32)}
    if sample.mask:
        data = _bytes(sample.mask, sample.mask_path, sample.mask_size, sample, source, spools)
        out["mask"] = tar.add(f"{sample.key}.mask.png", data, sample.mask.crc32)
    if sample.label >= 0:
        out["cls"] = tar.add(f"{sample.key}.cls", str(sample.label).encode())
    out["json"] = tar.add(f"{sample.key}.json", _facts(sample.facts).encode())
    return out


def _bytes(
    payload: Payload, path: str, size: int, sample: ShardSample, source: Source, spools: dict[str, BinaryIO]
) -> bytes:
    if payload.pieces is not None:
        try:
            data = source.read(path, size)
        except BadImage:
            data = b""
        if len(data) != payload.length or len(payload.pieces) > 1:
            data = joined(data, payload.pieces)
    else:
        if sample.spool not in spools:
            spools[sample.spool] = open(sample.spool, "rb")  # noqa: SIM115 - closed by the caller
        spool = spools[sample.spool]
        spool.seek(payload.offset)
        data = spool.read(payload.length)
    if len(data) == payload.length and zlib.crc32(data) == payload.crc32:
        return data
    if payload.pieces is not None:
        raise DataError("the file changed while the source was being packed", where=path, hint="start again")
    raise MedvqError("the workspace was changed from outside", where=sample.spool, hint="start again")
