"""Read the directories of a TIFF: what they say about pixels and pages, which Pillow does not pass on."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_FORMATS = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3}
"""Samples of a pixel that are grey or colour, by PhotometricInterpretation."""


@dataclass(frozen=True)
class TiffPixels:
    """The pixels of a TIFF."""

    bits: int
    """Of a sample."""
    samples: int
    """In a pixel."""
    white_is_zero: bool
    extra: int
    """Samples that are neither grey, colour nor alpha."""
    format: str
    """`unsigned`, `signed`, `float` or `complex`."""

    @property
    def words(self) -> str:
        """The kind of pixel in words."""
        kind = "" if self.format == "unsigned" else f" {self.format}"
        return f"{self.samples} x {self.bits}-bit{kind}" if self.samples > 1 else f"{self.bits}-bit{kind}"


@dataclass(frozen=True)
class Directory:
    """A directory of a TIFF, which describes a page."""

    start: int
    """Where it begins, in bytes."""
    following: int
    """Where the place of the next directory is stored."""
    tags: dict[int, tuple[int, ...]]
    """Values of tags that are whole numbers; (0,) for others and for more than 16 values."""


@dataclass(frozen=True)
class Layout:
    """How numbers are stored in a TIFF."""

    order: str
    """`<` or `>`, as in `struct`."""
    offset: str
    """Type of places in the file: 4 bytes (`I`), 8 in a BigTIFF (`Q`)."""
    count: str
    """Type of the number of tags."""
    first: int
    """Where the place of the first directory is stored."""


_LAYOUTS = {
    b"II*\0": Layout("<", "I", "H", 4),
    b"MM\0*": Layout(">", "I", "H", 4),
    b"II+\0": Layout("<", "Q", "Q", 8),
    b"MM\0+": Layout(">", "Q", "Q", 8),
}


def layout_of(data: bytes) -> Layout | None:
    """Return how numbers are stored in a TIFF or BigTIFF; None if it is neither."""
    return _LAYOUTS.get(data[:4])


def directories(data: bytes) -> Iterator[Directory]:
    """Yield the directories of a TIFF or BigTIFF up to the first one that is damaged."""
    layout = layout_of(data)
    if layout is None:
        return
    seen: set[int] = set()
    wide, number = struct.calcsize("=" + layout.offset), struct.calcsize("=" + layout.count)
    entry = 4 + 2 * wide
    try:
        (start,) = struct.unpack_from(layout.order + layout.offset, data, layout.first)
        while start and start not in seen:
            seen.add(start)
            (count,) = struct.unpack_from(layout.order + layout.count, data, start)
            following = start + number + entry * count
            if following + wide > len(data):
                return
            tags = dict(_tag(data, layout, start + number + entry * i) for i in range(count))
            yield Directory(start, following, tags)
            (start,) = struct.unpack_from(layout.order + layout.offset, data, following)
    except struct.error:
        return


def tiff_pixels(data: bytes) -> TiffPixels | None:
    """Return the pixels of a TIFF; None if its first directory cannot be read."""
    first = next(directories(data), None)
    if first is None or 256 not in first.tags or 257 not in first.tags:
        return None
    tags = first.tags
    samples, photometric = tags.get(277, (1,))[0], tags.get(262, (1,))[0]
    alphas = sum(kind in (1, 2) for kind in tags.get(338, ()))
    extra = max(0, samples - _COLOURS.get(photometric, samples) - alphas)
    values = _FORMATS.get(tags.get(339, (1,))[0], "unsigned")
    return TiffPixels(max(tags.get(258, (1,))), samples, photometric == 0, extra, values)


def _tag(data: bytes, layout: Layout, at: int) -> tuple[int, tuple[int, ...]]:
    """Return the number and the values of a tag."""
    order, wide = layout.order, struct.calcsize("=" + layout.offset)
    tag, kind, count = struct.unpack_from(f"{order}HH{layout.offset}", data, at)
    if kind not in _TYPES or not 0 < count <= 16:
        return tag, (0,)
    size = struct.calcsize("=" + _TYPES[kind]) * count
    inside = at + 4 + wide
    where = inside if size <= wide else struct.unpack_from(order + layout.offset, data, inside)[0]
    return tag, struct.unpack_from(f"{order}{count}{_TYPES[kind]}", data, where)
