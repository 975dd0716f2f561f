"""Staging: a checked copy of a dataset on a node's own disk, made once for all processes of the node.

Copies are named by content, so that a dataset that is packed again gets another; they are never changed, only added.
Whoever comes first copies while the others wait (a lock that the kernel frees when its holder dies); a copy that was
broken off goes on with the file it stopped at.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from medvq.errors import DataError, MedvqError
from medvq.shards.dataset.manifest import MANIFEST, read_manifest

_BLOCK = 4 << 20

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes that are there and the bytes of all files."""


def stage(dataset: Path, cache: Path, *, progress: Progress | None = None) -> Path:
    """The copy of `dataset` under `cache`, made and checked by sha256 if it is not there yet.

    Raises:
        NotFoundError: there is no dataset.
        DataError: a file of the dataset is not the one that its manifest names.
        MedvqError: the cache cannot be written, or is full.
    """
    manifest = read_manifest(dataset)
    text = manifest.text()
    target = cache / f"{manifest.digest[:12]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    files = [(f.file, f.bytes, f.sha256) for f in manifest.shards]
    files.append((manifest.index.file, manifest.index.bytes, manifest.index.sha256))
    try:
        target.mkdir(parents=True, exist_ok=True)
        with (cache / f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            missing = [f for f in files if not _is_there(target / f[0], f[1])]
            if missing:
                _copy_all(dataset, target, missing, sum(size for _, size, _ in files), progress)
            if not (target / MANIFEST).exists():
                _write(target / MANIFEST, text.encode())
    except OSError as e:
        raise MedvqError(
            f"the dataset cannot be staged: {e.strerror}", where=str(e.filename or cache), hint="choose another cache"
        ) from e
    return target


def _is_there(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size


def _copy_all(
    dataset: Path, target: Path, missing: list[tuple[str, int, str]], total: int, progress: Progress | None
) -> None:
    (target / MANIFEST).unlink(missing_ok=True)  # Not a dataset again before it is whole.
    needed, free = sum(size for _, size, _ in missing), shutil.disk_usage(target).free
    if needed > free:
        raise MedvqError(
            f"the dataset needs {needed / 1e9:.1f} GB more and {free / 1e9:.1f} GB are free", where=str(target)
        )
    done = total - needed
    for name, size, sha256 in missing:
        _copy(dataset / name, target / name, sha256)
        done += size
        if progress is not None:
            progress(name, done, total)


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file, hashing on the way; it gets its name when it is whole and right."""
    part = target.with_name(target.name + ".part")
    digest = hashlib.sha256()
    try:
        with source.open("rb") as read, part.open("wb") as write:
            while block := read.read(_BLOCK):
                digest.update(block)
                write.write(block)
        if digest.hexdigest() != sha256:
            raise DataError(
                "the file is not the one that the manifest names", where=str(source), hint="run medvq verify"
            )
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)
