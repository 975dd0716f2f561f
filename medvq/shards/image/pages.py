"""Count the pages or frames of an image file, and cut out one of them as a file of its own."""

from __future__ import annotations

import io
import struct

from medvq.shards.image.arrays import first_line
from medvq.shards.image.bad import BadImage
from medvq.shards.image.pillow import FORMATS
from medvq.shards.image.sniff import sniff
from medvq.shards.image.tiff import Directory, directories, layout_of

REDUCED = 1
"""Bit of a TIFF's NewSubfileType: the page is a smaller copy of another one."""


def count_pages(data: bytes) -> int:
    """Return the number of pages or frames of an image file; 1 if it has no pages or cannot be read.

    Smaller copies of pages in a TIFF are not counted.
    """
    kind = sniff(data[:64])
    if kind == "tiff":
        return max(1, len(_pages(data)))
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
        found, layout = _pages(data), layout_of(data)
        if layout is None or page >= len(found):
            raise BadImage(f"it has no page {page}")
        out = bytearray(data)
        struct.pack_into(layout.order + layout.offset, out, layout.first, found[page].start)
        struct.pack_into(layout.order + layout.offset, out, found[page].following, 0)
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


def _pages(data: bytes) -> list[Directory]:
    """Return the directories of the pages of a TIFF."""
    return [d for d in directories(data) if not d.tags.get(254, (0,))[0] & REDUCED]
