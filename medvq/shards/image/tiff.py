"""Read what the first directory of a TIFF says about its pixels, which Pillow does not pass on."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_TYPES = {1: "B", 3: "H", 4: "I"}
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


def tiff_pixels(data: bytes) -> TiffPixels | None:
    """Return the pixels of a classic TIFF; None if its first directory cannot be read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        tags = dict(_tag(data, order, start + 2 + 12 * i) for i in range(count))
    except struct.error:
        return None
    if 256 not in tags or 257 not in tags:
        return None
    samples, photometric = tags.get(277, (1,))[0], tags.get(262, (1,))[0]
    alphas = sum(kind in (1, 2) for kind in tags.get(338, ()))
    extra = max(0, samples - _COLOURS.get(photometric, samples) - alphas)
    values = _FORMATS.get(tags.get(339, (1,))[0], "unsigned")
    return TiffPixels(max(tags.get(258, (1,))), samples, photometric == 0, extra, values)


def _tag(data: bytes, order: str, at: int) -> tuple[int, tuple[int, ...]]:
    """Return the number and the values of a tag; no values if they are no whole numbers, or more than 16."""
    tag, kind, count = struct.unpack_from(order + "HHI", data, at)
    if kind not in _TYPES or not 0 < count <= 16:
        return tag, (0,)
    size = struct.calcsize(_TYPES[kind]) * count
    where = at + 8 if size <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
    return tag, struct.unpack_from(f"{order}{count}{_TYPES[kind]}", data, where)
