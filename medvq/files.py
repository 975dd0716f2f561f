"""Write and remove files and folders such that an interruption never leaves a partial one in place."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from medvq.errors import MedvqError


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file in the same folder, flush it to disk, and rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON atomically. Keys keep their order.

    Raises:
        ValueError: `value` contains NaN or an infinity.
    """
    write_atomic(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Return the JSON value in a file; None if the file does not exist or does not hold valid JSON."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def replace_folder(new: Path, path: Path) -> None:
    """Rename the folder `new` to `path`, and remove the older folder at `path` first if there is one."""
    remove_folder(path)
    os.replace(new, path)


def remove_folder(path: Path) -> None:
    """Remove a folder with its contents, if it exists.

    The folder is renamed first. A partly removed folder therefore never has the original name.
    """
    if path.exists():
        gone = path.with_name(f".{path.name.lstrip('.')}.gone.tmp")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


def make_folder(path: Path) -> Path:
    """Create a folder and its parents if they do not exist, and return its path.

    Raises:
        MedvqError: the folder cannot be created, or is not writable.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise MedvqError(
            f"cannot create this folder: {e.strerror}", where=str(path), hint="choose a folder that you can write to"
        ) from e
    if not os.access(path, os.W_OK):
        raise MedvqError("cannot write to this folder", where=str(path), hint="choose a folder that you can write to")
    return path
