"""Copy a dataset to a node's local disk, checked, once for all processes of the node.

A copy is named by its content and never changed; a dataset that is packed again gets another copy. The first process
copies while the others wait for a lock, which the kernel releases if that process dies. An interrupted copy continues
with the file at which it stopped.
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
"""Called with the name of a file that was copied, the bytes copied so far and the bytes of all files."""


def stage(dataset: Path, cache: Path, *, progress: Progress | None = None) -> Path:
    """Return the copy of `dataset` under `cache`. Make it, and check its sha256, if it does not exist yet.

    Raises:
        NotFoundError: there is no dataset.
        DataError: a file of the dataset differs from what its manifest says.
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
    (target / MANIFEST).unlink(missing_ok=True)  # it comes last: a folder without it is no dataset
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
    """Copy a file and check its sha256. It gets its name only when it is complete and correct."""
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
