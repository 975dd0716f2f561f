"""Columns of `index.parquet` as numpy arrays, read on first use and in bounded memory.

As Python objects, the index of ten million samples takes more than a gigabyte; as arrays, a tenth of that. So columns
are read batch by batch into arrays, and texts become Python strings only for the rows that are asked for.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.errors import DataError

_BATCH = 1 << 17
_TYPES: dict[str, Any] = {"label": np.int16, "shard": np.int32, "rank": np.int32, "has_mask": np.bool_}
_TYPES |= {"width": np.int32, "height": np.int32}
for _member in ("image", "mask", "cls", "json"):
    # A member is far below 4 GiB; half the memory of the index's int64.
    _TYPES |= {f"{_member}_offset": np.int64, f"{_member}_length": np.uint32, f"{_member}_crc32": np.uint32}


class Columns:
    """The columns of one index file."""

    def __init__(self, path: Path, rows: int, sha256: str | None = None) -> None:
        self.path, self.rows = path, rows
        self._sha256 = sha256
        self._arrays: dict[str, NDArray[Any]] = {}
        self._texts: dict[str, Any] = {}

    def array(self, name: str) -> NDArray[Any]:
        """Return the numeric column `name`, of shape (rows,).

        Raises:
            DataError: the index is damaged, or differs from what the manifest says.
        """
        if name not in self._arrays:
            out = np.empty(self.rows, dtype=_TYPES[name])
            self._fill(name, out, lambda chunk: chunk.to_numpy(zero_copy_only=False))
            self._arrays[name] = out
        return self._arrays[name]

    def codes(self, name: str, values: Sequence[str]) -> NDArray[np.int16]:
        """Return the position of each row's text in `values`, of shape (rows,); -1 if it is none of them."""
        place = f"{name}: {', '.join(values)}"
        if place not in self._arrays:
            import pyarrow as pa
            import pyarrow.compute as pc

            known = pa.array(values, pa.string())

            def places(chunk: Any) -> NDArray[Any]:
                found: NDArray[Any] = pc.fill_null(pc.index_in(chunk.cast(pa.string()), known), -1).to_numpy()
                return found

            out = np.empty(self.rows, dtype=np.int16)
            self._fill(name, out, places)
            self._arrays[place] = out
        return self._arrays[place]

    def leading_bits(self, name: str) -> NDArray[np.uint64]:
        """Return the first 64 bits of a column of sha256 sums in hex, of shape (rows,). The result is not cached."""
        out = np.empty(self.rows, dtype=np.uint64)
        self._fill(name, out, _hex_words)
        return out

    def texts(self, name: str, rows: NDArray[np.integer[Any]]) -> list[Any]:
        """Return the texts of `rows`; None for null."""
        if name not in self._texts:
            import pyarrow as pa

            chunks = [c.cast(pa.large_string()) for c in self._chunks(name)]
            self._texts[name] = pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
        found: list[Any] = self._texts[name].take(rows).to_pylist()
        return found

    def _fill(self, name: str, out: NDArray[Any], convert: Any) -> None:
        start = 0
        for chunk in self._chunks(name):
            out[start : start + len(chunk)] = convert(chunk)
            start += len(chunk)

    def _chunks(self, name: str) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._check()
        try:
            with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 20) as file:
                if file.metadata.num_rows != self.rows:
                    raise self._damaged(f"has {file.metadata.num_rows} rows where the manifest counts {self.rows}")
                for batch in file.iter_batches(_BATCH, columns=[name]):
                    yield batch.column(0)
        except (OSError, pa.ArrowException, KeyError, IndexError) as e:
            raise self._damaged(f"cannot be read: {e}") from e

    def _check(self) -> None:
        """Check the sha256 of the file, once, before anything is read from it."""
        if self._sha256 is None:
            return
        try:
            with self.path.open("rb") as f:
                found = hashlib.file_digest(f, "sha256").hexdigest()
        except OSError as e:
            raise self._damaged(f"cannot be read: {e.strerror}") from e
        if found != self._sha256:
            raise self._damaged("is not the index that the manifest names (its sha256 differs)")
        self._sha256 = None

    def _damaged(self, what: str) -> DataError:
        return DataError(f"the index {what}", where=str(self.path), hint="pack the dataset again")


def _hex_words(chunk: Any) -> NDArray[np.uint64]:
    """Return the first 16 hex digits of n texts of 64 as integers, of shape (n,)."""
    import pyarrow as pa

    chunk = chunk.cast(pa.large_string())
    _, ends, text = chunk.buffers()
    edges = np.frombuffer(ends, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
    if len(chunk) and not np.all(np.diff(edges) == 64):
        raise DataError("the index holds a sha256 that is not 64 hex digits", hint="pack the dataset again")
    digits = np.frombuffer(text, np.uint8)[edges[0] : edges[-1]].reshape(-1, 64)[:, :16]
    return np.frombuffer(binascii.unhexlify(digits.tobytes()), ">u8").astype(np.uint64)
