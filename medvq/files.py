"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from medvq.errors import MedvqError


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside, flush to disk, rename into place."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in their given order, refusing NaN."""
    write_atomic(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON in a file, or None where there is no such file or it is torn."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def replace_folder(beside: Path, path: Path) -> None:
    """Put a folder that was written beside into its place, where an older one may be."""
    remove_folder(path)
    os.replace(beside, path)


def remove_folder(path: Path) -> None:
    """Remove a folder; renamed first, so that a half-removed one is never taken for whole."""
    if path.exists():
        gone = path.with_name(f".{path.name.lstrip('.')}.gone.tmp")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


def make_folder(path: Path) -> Path:
    """Make a folder and its parents.

    Raises:
        MedvqError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise MedvqError(
            f"cannot make this folder: {e.strerror}", where=str(path), hint="choose one you may write to"
        ) from e
    if not os.access(path, os.W_OK):
        raise MedvqError("cannot write to this folder", where=str(path), hint="choose one you may write to")
    return path
