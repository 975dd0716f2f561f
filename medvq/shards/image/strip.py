"""Remove EXIF, comments, thumbnails and colour profiles from JPEG and PNG files without changing a pixel."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medvq.shards.image.bad import BadImage

_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


Piece = tuple[int, int] | str
"""A range of bytes of a file, [start, end), or other bytes as hex digits."""


class Kept(NamedTuple):
    """The bytes of a source file that a dataset stores, and how they are cut out of it."""

    data: bytes
    pieces: Sequence[Piece]
    """The pieces of the file that make up `data`."""


def joined(data: bytes, pieces: Sequence[Piece]) -> bytes:
    """Return the bytes that `pieces` cut out of `data`."""
    return b"".join([bytes.fromhex(p) if isinstance(p, str) else data[p[0] : p[1]] for p in pieces])


@dataclass(frozen=True)
class Plain:
    """An image file reduced to what its pixels need."""

    data: bytes
    pieces: Sequence[Piece]
    """The pieces of the file that make up `data`."""
    width: int
    height: int
    components: int
    """JPEG: 1, 3 or 4. PNG: samples per pixel, 1 for a palette."""
    depth: int
    """Bits per sample."""
    exif: bytes | None
    """The EXIF block that was cut out; it holds the orientation."""
    simple: bool
    """Whether the file is 8-bit grey or RGB that every reader decodes alike, so that its bytes can be stored."""
    frames: int = 1
    """Number of frames of an animated PNG; only the first one is in `data`."""


def plain_jpeg(data: bytes) -> Plain:
    """Return a JPEG without comments, APPn segments and bytes behind the end marker.

    The JFIF and Adobe segments are kept and cut to their fixed part, as decoders read colour spaces from them.

    Raises:
        BadImage: a segment is damaged or cut short, or the end marker is missing.
    """
    pos, end = 2, len(data)
    keep: list[Piece] = [(0, 2)]
    exif: bytes | None = None
    frame: tuple[int, int, int, int, int] | None = None
    while True:
        while pos < end and data[pos] == 0xFF and data[pos + 1 : pos + 2] == b"\xff":
            pos += 1
        if pos + 2 > end:
            raise BadImage("cut short: the JPEG has no end marker")
        if data[pos] != 0xFF:
            raise BadImage(f"damaged JPEG: no marker at byte {pos}")
        marker = data[pos + 1]
        if marker == 0xD9:
            keep.append((pos, pos + 2))
            break
        if marker in _STANDALONE:
            keep.append((pos, pos + 2))
            pos += 2
            continue
        stop = pos + 2 + int.from_bytes(data[pos + 2 : pos + 4], "big")
        if stop < pos + 4 or stop > end:
            raise BadImage("cut short: a JPEG segment goes beyond the end of the file")
        body = data[pos + 4 : min(stop, pos + 24)]
        if marker == 0xE0 and body.startswith(b"JFIF\0") and stop - pos >= 18:
            whole = stop - pos == 18 and body[12:14] == b"\0\0"
            keep.append((pos, stop) if whole else (b"\xff\xe0\0\x10" + body[:12] + b"\0\0").hex())
        elif marker == 0xEE and body.startswith(b"Adobe") and stop - pos >= 16:
            keep.append((pos, stop) if stop - pos == 16 else (b"\xff\xee\0\x0e" + body[:12]).hex())
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or data[pos + 4 : stop]
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            pass
        else:
            keep.append((pos, stop))
        if marker in _FRAMES and frame is None and len(body) >= 6:
            frame = (marker, body[0], *struct.unpack(">HHB", body[1:6]))
        pos = stop
        if marker == 0xDA:
            found = _NEXT_MARKER.search(data, pos)
            if not found:
                raise BadImage("cut short: the JPEG has no end marker")
            keep.append((pos, found.start()))
            pos = found.start()
    if frame is None:
        raise BadImage("damaged JPEG: it has no frame header")
    kind, depth, height, width, components = frame
    simple = depth == 8 and components in (1, 3) and kind in (0xC0, 0xC1, 0xC2)
    pieces = _merged(keep)
    plain = data if pieces == [(0, end)] else joined(data, pieces)
    return Plain(plain, pieces, width, height, components, depth, exif, simple)


def _merged(keep: list[Piece]) -> list[Piece]:
    """Return `keep` with adjacent ranges joined."""
    out: list[Piece] = []
    for piece in keep:
        last = out[-1] if out else ""
        if isinstance(piece, tuple) and isinstance(last, tuple) and last[1] == piece[0]:
            out[-1] = (last[0], piece[1])
        else:
            out.append(piece)
    return out


_PNG_COMPONENTS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def plain_png(data: bytes) -> Plain:
    """Return a PNG with only the chunks that its pixels need, and check the CRC of every chunk.

    Raises:
        BadImage: a chunk is damaged or cut short, or the end chunk is missing.
    """
    pos, end = 8, len(data)
    keep: list[Piece] = [(0, 8)]
    exif: bytes | None = None
    transparent, header, frames = False, b"", 1
    while True:
        if pos + 12 > end:
            raise BadImage("cut short: the PNG has no end chunk")
        length, name = int.from_bytes(data[pos : pos + 4], "big"), data[pos + 4 : pos + 8]
        stop = pos + 12 + length
        if stop > end:
            raise BadImage("cut short: a PNG chunk goes beyond the end of the file")
        if zlib.crc32(data[pos + 4 : stop - 4]) != int.from_bytes(data[stop - 4 : stop], "big"):
            raise BadImage(f"damaged PNG: the checksum of its {name.decode('latin-1')} chunk is wrong")
        if name == b"IHDR":
            header = data[pos + 8 : stop - 4]
        elif name == b"acTL" and length == 8:
            frames = int.from_bytes(data[pos + 8 : pos + 12], "big")
        elif name == b"eXIf":
            exif = b"Exif\0\0" + data[pos + 8 : stop - 4]
        transparent = transparent or name == b"tRNS"
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            keep.append((pos, stop))
        pos = stop
        if name == b"IEND":
            break
    if len(header) != 13:
        raise BadImage("damaged PNG: it has no header chunk")
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    pieces = _merged(keep)
    plain = data if pieces == [(0, end)] else joined(data, pieces)
    simple = depth == 8 and colour in (0, 2) and not transparent
    return Plain(plain, pieces, width, height, _PNG_COMPONENTS.get(colour, 0), depth, exif, simple, frames)
