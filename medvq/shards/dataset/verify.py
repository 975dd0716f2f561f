"""Check a dataset byte by byte for `medvq verify`, and name the member of the shard that is damaged."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvq.errors import DataError
from medvq.shards.dataset.manifest import INDEX, MANIFEST, Manifest, ShardFile, read_manifest
from medvq.shards.dataset.tar import BLOCK, header

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Finding:
    """A problem of a dataset."""

    shard: str
    """The file: a shard, the index or the manifest."""
    key: str | None
    """The key of the sample, if one is known."""
    problem: str


def verify(dataset: Path, *, deep: bool = False, progress: Progress | None = None) -> list[Finding]:
    """Return everything that is wrong with a dataset folder.

    Size and sha256 of every file are checked and, in a shard that differs, crc32 and header of every member.

    Args:
        dataset: the dataset folder.
        deep: also decode every image and mask, and compare labels and sizes with the index.
        progress: called with (stage, shards done, all shards).

    Raises:
        NotFoundError: there is no dataset.
        MissingError: it was written by a newer medvq.
    """
    dataset = Path(dataset)
    try:
        manifest = read_manifest(dataset)
    except DataError as e:
        return [Finding(MANIFEST, None, e.error)]
    found = verify_rest(dataset, manifest)
    check, total = shard_checker(dataset, manifest, deep=deep), len(manifest.shards)
    for number in range(total):
        found += check(number)
        if progress:
            progress("verify", number + 1, total)
    return found


def verify_rest(dataset: Path, manifest: Manifest) -> list[Finding]:
    """Return what is wrong with the index, and which shards the manifest does not name."""
    problem = _index_problem(dataset, manifest)
    return ([Finding(INDEX, None, problem)] if problem else []) + _strangers(dataset, manifest)


def shard_checker(dataset: Path, manifest: Manifest, *, deep: bool) -> Callable[[int], list[Finding]]:
    """Return a function that checks the shard with a given number. It names members only if the index is intact."""
    rows = None if _index_problem(dataset, manifest) else _rows_by_shard(dataset)

    def check(number: int) -> list[Finding]:
        shard = manifest.shards[number]
        mine = None if rows is None else rows.get(number, [])
        found = _check_shard(dataset, shard, mine, manifest)
        if deep and mine is not None and (dataset / shard.file).is_file():
            found += _look_deeper(dataset / shard.file, mine, manifest, {f.key for f in found})
        return found

    return check


def _index_problem(dataset: Path, manifest: Manifest) -> str | None:
    return _file_problem(dataset / INDEX, manifest.index.bytes, manifest.index.sha256)


def _file_problem(path: Path, size: int, sha256: str) -> str | None:
    try:
        have = path.stat().st_size
        if have != size:
            return f"has {have} bytes, not {size}"
        with path.open("rb") as f:
            return None if hashlib.file_digest(f, "sha256").hexdigest() == sha256 else "its sha256 is wrong"
    except FileNotFoundError:
        return "the file is missing"
    except OSError as e:
        return f"cannot be read: {e.strerror}"


def _rows_by_shard(dataset: Path) -> dict[int, list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in pq.read_table(dataset / INDEX).to_pylist():
        rows[row["shard"]].append(row)
    return rows


def _strangers(dataset: Path, manifest: Manifest) -> list[Finding]:
    known = {s.file for s in manifest.shards}
    there = sorted(p.name for p in dataset.glob("*.tar") if not p.name.startswith("."))
    return [Finding(name, None, "the manifest knows no such shard") for name in there if name not in known]


def _check_shard(
    dataset: Path, shard: ShardFile, rows: list[dict[str, Any]] | None, manifest: Manifest
) -> list[Finding]:
    path = dataset / shard.file
    problem = _file_problem(path, shard.bytes, shard.sha256)
    if problem is None:
        return []
    try:
        data = path.read_bytes()
    except OSError:
        return [Finding(shard.file, None, problem)]
    twin = next(
        (
            s.file
            for s in manifest.shards
            if s is not shard and s.bytes == len(data) and s.sha256 == hashlib.sha256(data).hexdigest()
        ),
        None,
    )
    if twin:
        return [Finding(shard.file, None, f"it holds what {twin} should hold")]
    bad = [] if rows is None else [f for r in rows if (f := _member_problem(data, r, shard.file))]
    return bad or [Finding(shard.file, None, f"{problem}; its members are whole")]


MEMBERS = (("image", ".{ext}"), ("mask", ".mask.png"), ("cls", ".cls"), ("json", ".json"))


def _member_problem(data: bytes, row: dict[str, Any], file: str) -> Finding | None:
    """Return what is wrong with the first damaged member of a sample, if any."""
    for member, suffix in MEMBERS:
        offset, length = row[f"{member}_offset"], row[f"{member}_length"]
        if offset < 0:
            continue
        name = row["key"] + suffix.format(ext=row["ext"])
        if offset + length > len(data):
            return Finding(file, row["key"], f"{name} is cut off")
        if zlib.crc32(data[offset : offset + length]) != row[f"{member}_crc32"]:
            return Finding(file, row["key"], f"the bytes of {name} are damaged")
        if data[offset - BLOCK : offset] != header(name, length):
            return Finding(file, row["key"], f"the tar header of {name} is damaged")
        if data[offset + length : offset + length + -length % BLOCK].strip(b"\0"):
            return Finding(file, row["key"], f"the padding after {name} is damaged")
    return None


def _look_deeper(path: Path, rows: list[dict[str, Any]], manifest: Manifest, known: set[str | None]) -> list[Finding]:
    """Decode every sample of a shard and return what is wrong."""
    found = []
    with path.open("rb") as f:
        for row in rows:
            if row["key"] in known:
                continue

            def read(member: str, row: dict[str, Any] = row) -> bytes:
                f.seek(row[f"{member}_offset"])
                return f.read(row[f"{member}_length"])

            problem = _decode_problem(row, read, manifest)
            if problem:
                found.append(Finding(path.name, row["key"], problem))
    return found


def _decode_problem(row: dict[str, Any], read: Callable[[str], bytes], manifest: Manifest) -> str | None:
    from medvq.config.recipe import Recipe
    from medvq.shards.image.bad import BadImage
    from medvq.shards.image.decode import decode, decode_mask

    any_size = Recipe(max_pixels=1 << 40)
    want = (row["height"], row["width"])
    try:
        data = read("image")
        shape = _npy_shape(data) if row["ext"] == "npy" else decode(data, any_size).pixels.shape
        if shape[:2] != want:
            return f"the image is {shape[1]}x{shape[0]}, the index says {want[1]}x{want[0]}"
        if row["mask_offset"] >= 0 and decode_mask(read("mask"), any_size).pixels.shape != want:
            return "the mask has another size than its image"
    except (BadImage, ValueError) as e:
        return f"it does not decode: {e}"
    if row["label"] >= 0 and read("cls") != str(row["label"]).encode():
        return "its class file and the index disagree"
    if row["label"] >= len(manifest.classes) > 0:
        return f"label {row['label']} has no class"
    try:
        json.loads(read("json"))
    except ValueError:
        return "its JSON cannot be read"
    return None


def _npy_shape(data: bytes) -> tuple[int, ...]:
    import io

    import numpy as np

    shape: tuple[int, ...] = np.load(io.BytesIO(data), allow_pickle=False).shape
    return shape
