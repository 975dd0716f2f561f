"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from medvq.config.errors import MedvqError


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
