"""Write a shard: a plain ustar file whose bytes depend on its members alone."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

BLOCK = tarfile.BLOCKSIZE


class Member(NamedTuple):
    """Where the data of a member are in its shard."""

    offset: int
    length: int
    crc32: int


class TarWriter:
    """Write members one after the other; `close` pads the file, flushes it to disk, and returns its size and sha256."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=1 << 20)  # noqa: SIM115 - closed by `close` or `__exit__`
        self._hash = hashlib.sha256()
        self._at = 0

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str, data: bytes, crc32: int | None = None) -> Member:
        """Append `data` as the member `name` (at most 100 ASCII characters); pass `crc32` if it is known."""
        member = Member(self._at + BLOCK, len(data), zlib.crc32(data) if crc32 is None else crc32)
        self._write(b"".join((header(name, len(data)), data, bytes(-len(data) % BLOCK))))
        return member

    def close(self) -> tuple[int, str]:
        """End the file and return its number of bytes and its sha256."""
        self._write(bytes(2 * BLOCK))
        self._write(bytes(-self._at % tarfile.RECORDSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._at, self._hash.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._at += len(data)


def header(name: str, size: int) -> bytes:
    """Return the ustar header of a member; owner, group and time are 0, as `tarfile.TarInfo` sets them.

    `tarfile` gives the same bytes in ten times the time.

    Raises:
        ValueError: the name has more than 100 bytes or none, or is not ASCII, or the size does not fit in 33 bits.
    """
    title, digits = name.encode("ascii"), b"%011o" % size
    if not 0 < len(title) <= _NAME or len(digits) > _DIGITS:
        raise ValueError(
            f"too long for a shard: {name!r} of {size} bytes; names have 1 to {_NAME}, members under 8 GiB"
        )
    checksum = _EMPTY_SUM + sum(title) + sum(digits) - _DIGITS * ord("0")
    parts = (title, _EMPTY[len(title) : 124], digits, _EMPTY[135:148], b"%06o" % checksum, _EMPTY[154:])
    return b"".join(parts)


def _empty() -> bytes:
    info = tarfile.TarInfo()
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, encoding="ascii", errors="strict")


_NAME, _DIGITS = 100, 11
_EMPTY = _empty()
"""The header of a member without a name and without data."""
_EMPTY_SUM = int(_EMPTY[148:154], 8)
