"""Write a shard: a plain ustar file whose bytes depend on its members alone."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

BLOCK = 512


class Member(NamedTuple):
    """Where a member's data lie in its shard."""

    offset: int
    length: int
    crc32: int


class TarWriter:
    """Writes members one after the other; `close` pads, syncs and gives size and sha256."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=1 << 20)  # noqa: SIM115 - closed by `close` or `__exit__`
        self._hash = hashlib.sha256()
        self._at = 0

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str, data: bytes, crc32: int | None = None) -> Member:
        """Append `data`, whose `crc32` may be known, as `name` (ASCII, at most 100 characters)."""
        member = Member(self._at + BLOCK, len(data), zlib.crc32(data) if crc32 is None else crc32)
        self._write(b"".join((header(name, len(data)), data, bytes(-len(data) % BLOCK))))
        return member

    def close(self) -> tuple[int, str]:
        """End the file; returns its bytes and sha256."""
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


def _fixed() -> tuple[bytes, bytes]:
    """The parts of a header between name and size, and behind the checksum, as `tarfile` writes them."""
    info = tarfile.TarInfo("x")
    info.mode = 0o644
    whole = info.tobuf(tarfile.USTAR_FORMAT)
    return whole[100:124], whole[136:148] + b" " * 8 + whole[156:]


_HEAD, _TAIL = _fixed()
_FIXED_SUM = sum(_HEAD) + sum(_TAIL)


def header(name: str, size: int) -> bytes:
    """The 512-byte ustar header of a member: owner, group and time are zero; `name` is ASCII of at most 100."""
    named, sized = name.encode("ascii"), b"%011o\0" % size
    whole = named.ljust(100, b"\0") + _HEAD + sized + _TAIL
    return whole[:148] + b"%06o\0 " % (sum(named) + sum(sized) + _FIXED_SUM) + whole[156:]
