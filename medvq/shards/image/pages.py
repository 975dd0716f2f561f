"""Count the pages or frames of an image file, and cut out one of them as a file of its own."""

from __future__ import annotations

import io
import struct

from medvq.shards.image.arrays import first_line
from medvq.shards.image.bad import BadImage
from medvq.shards.image.pillow import FORMATS
from medvq.shards.image.sniff import sniff

REDUCED = 1
"""Bit of a TIFF's NewSubfileType: the page is a smaller copy of another one."""


def count_pages(data: bytes) -> int:
    """Return the number of pages or frames of an image file; 1 if it has no pages or cannot be read.

    Smaller copies of pages in a TIFF are not counted.
    """
    kind = sniff(data[:64])
    if kind == "tiff":
        return max(1, len(_directories(data)))
    if kind not in ("gif", "png", "webp") or (kind == "png" and b"acTL" not in data[:4096]):
        return 1
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=[FORMATS[kind]]) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # a damaged file is told when it is decoded
        return 1


def page_bytes(data: bytes, page: int) -> bytes:
    """Return one page as a file: a TIFF whose only page it is, or a PNG of the frame.

    Args:
        data: the file.
        page: number of the page, from 0.

    Raises:
        BadImage: it cannot be read.
    """
    kind = sniff(data[:64])
    if kind == "tiff":
        found = _directories(data)
        if page >= len(found):
            raise BadImage(f"it has no page {page}")
        order, (start, following) = _order(data), found[page]
        out = bytearray(data)
        struct.pack_into(order + "I", out, 4, start)
        struct.pack_into(order + "I", out, following, 0)
        return bytes(out)
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=[FORMATS[kind or ""]]) as image:
            image.seek(page)
            out_file = io.BytesIO()
            image.copy().save(out_file, "PNG", compress_level=1)
    except Exception as e:  # every decoder raises errors of its own
        raise BadImage(f"page {page} cannot be read: {first_line(e)}") from e
    return out_file.getvalue()


def _order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _directories(data: bytes) -> list[tuple[int, int]]:
    """Return for each page of a classic TIFF where its directory is, and where the place of the next one is stored."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return []
    order, out = _order(data), list[tuple[int, int]]()
    seen: set[int] = set()
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        while start and start not in seen:
            seen.add(start)
            (count,) = struct.unpack_from(order + "H", data, start)
            tags = [struct.unpack_from(order + "HHII", data, start + 2 + 12 * i) for i in range(count)]
            following = start + 2 + 12 * count
            if not any(tag == 254 and value & REDUCED for tag, _, _, value in tags):
                out.append((start, following))
            (start,) = struct.unpack_from(order + "I", data, following)
    except struct.error:
        return out
    return out
