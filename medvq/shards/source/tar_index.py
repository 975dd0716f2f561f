"""Find the members of a tar file by position, without trusting the file: names, links, headers and its end."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

LARGEST_HEADER = 1 << 20
"""Bytes of an extended header (a long name, or PAX records) that are read."""
LONGEST_NAME = 1024
"""Characters that the name of a member may have."""
_BLOCK = 512
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class TarMember(NamedTuple):
    """A regular file in a tar file."""

    name: str
    """Without `./` at the beginning."""
    offset: int
    """Where its data begin in the tar file, in bytes."""
    size: int


class OddMember(NamedTuple):
    """A member that cannot be used."""

    name: str
    reason: str


@dataclass
class TarIndex:
    """The members of a tar file in their order."""

    members: list[TarMember] = field(default_factory=list)
    odd: list[OddMember] = field(default_factory=list)
    """Links, devices, and members whose names are not safe."""
    problem: str | None = None
    """Why the rest of the file cannot be read, if so."""
    last: str | None = None
    """Name of the last member before the problem. Members of its sample may be lost."""


def index_tar(path: Path) -> TarIndex:
    """Return the members of an uncompressed tar file. Damage does not raise an error: it is the index's `problem`.

    `tarfile` ends silently at a damaged header, and where a file was cut between two members. So everything behind the
    last member must be zeros, at least one block of them.
    """
    out = TarIndex()
    end, name = 0, None
    try:
        with _Headers(io.FileIO(path)) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            try:
                for info, end in _members(file):  # noqa: B007 - `end` is used after the loop
                    name = _add(info, size, out)
                    if info.offset_data + info.size > size:
                        out.problem = f"it is cut off within {info.name}"
                        break
                else:
                    out.problem = _trailer_problem(file, end, size)
            except tarfile.TarError as e:
                out.problem = _told(e, path, end)
    except OSError as e:
        out.problem = f"cannot be read: {e.strerror}"
    out.last = name if out.problem else None
    return out


class _Headers(io.BufferedReader):
    """A file from which `tarfile` reads headers. A header that claims to be larger than any real one is refused."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"an extended header claims {size:,} bytes")
        return super().read(size)


def _members(file: _Headers) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield each member and where the next header begins."""
    tar = tarfile.TarFile(fileobj=file, mode="r", encoding="utf-8", errors="surrogateescape")
    before = 0
    while (info := tar.next()) is not None:
        if info.size < 0 or tar.offset <= before:
            raise tarfile.ReadError(f"the header of {info.name} gives a wrong size")
        before = tar.offset
        yield info, tar.offset
        tar.members.clear()  # type: ignore[attr-defined] # `tarfile` would keep every member in memory


def _add(info: tarfile.TarInfo, size: int, out: TarIndex) -> str:
    """Add a member to the index, and return its name."""
    name = info.name
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    if info.isdir():
        return name
    reason = _odd(info, name)
    if reason:
        out.odd.append(OddMember(name[:LONGEST_NAME], reason))
    elif info.offset_data + info.size <= size:
        out.members.append(TarMember(name, info.offset_data, info.size))
    return name


def _odd(info: tarfile.TarInfo, name: str) -> str | None:
    if info.issym() or info.islnk():
        return "a link, not a file"
    if not info.isreg():
        return "not a regular file"
    if info.issparse():
        return "a sparse file, whose bytes are not stored in one piece"
    if name.startswith("/") or ".." in name.split("/"):
        return "its name leads out of the shard"
    if len(name) > LONGEST_NAME:
        return f"its name has more than {LONGEST_NAME:,} characters"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    return None


def _told(error: tarfile.TarError, path: Path, end: int) -> str:
    """Return in words why a tar file cannot be read on."""
    if end:
        return f"it is damaged or cut off at byte {end:,}: {error}"
    with path.open("rb") as file:
        head = file.read(8)
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed:
        return f"it is compressed with {packed}, and members cannot be read by position: unpack it first"
    return "it is empty" if not head else f"it is not a tar file: {error}"


def _trailer_problem(file: _Headers, end: int, size: int) -> str | None:
    """Return what is wrong behind the last member, if anything."""
    if size - end < _BLOCK:
        return f"it is cut off at byte {size:,}: it lacks the zeros that end a tar file"
    file.seek(end)
    first = True
    while block := file.read(_BLOCK if first else LARGEST_HEADER):
        if block.strip(b"\0"):
            where = file.tell() - len(block)
            return f"the header at byte {where:,} is damaged" if first else "data follow the end of the tar file"
        first = False
    return None
