"""Write and read the inputs of packing tasks: pickles in the workspace, which share one pickle of the source."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from medvq.errors import UsageError
from medvq.shards.source.base import Source

SOURCE = "source.pkl"
"""Name of the pickle of the source."""


def save_source(folder: Path, source: Source) -> None:
    """Pickle the source.

    Raises:
        UsageError: it cannot be pickled.
    """
    try:
        _write(folder / SOURCE, source, None)
    except (pickle.PicklingError, TypeError, AttributeError) as e:
        raise UsageError(
            f"the source {type(source).__name__} cannot be sent to other machines: {e}",
            hint="make it work with pickle (`__getstate__`), or pack on one machine, without --profile",
        ) from e


def save(path: Path, value: object, source: Source) -> None:
    """Pickle a value; in the place of the source there is a reference to its own pickle beside `path`."""
    _write(path, value, source)


def load(path: Path) -> Any:
    """Return what `save` wrote."""
    with open(path, "rb") as f:
        return _Unpickler(f, path.with_name(SOURCE)).load()


def _write(path: Path, value: object, source: Source | None) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as f:
            _Pickler(f, source).dump(value)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


class _Pickler(pickle.Pickler):
    def __init__(self, file: Any, source: Source | None) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._source = source

    def persistent_id(self, obj: object) -> str | None:
        return SOURCE if obj is self._source and obj is not None else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, source: Path) -> None:
        super().__init__(file)
        self._path, self._source = source, None

    def persistent_load(self, pid: str) -> Any:
        if self._source is None:
            self._source = load(self._path)
        return self._source
