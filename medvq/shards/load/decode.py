"""Decode the bytes of a dataset's members to pixels.

JPEGs are decoded by libjpeg-turbo in full size (scaled decoding gives other pixels), everything else by Pillow.
"""

from __future__ import annotations

import ast
import io
from functools import lru_cache

import numpy as np

from medvq.shards.image.arrays import Pixels

_JPEG, _NPY = b"\xff\xd8\xff", b"\x93NUMPY"


def decode_image(data: bytes, channels: int) -> Pixels:
    """Return (H, W, C) pixels of an image file; grey and colour are converted as Pillow does.

    Raises:
        ValueError, OSError: the bytes are not an image.
    """
    return to_channels(_decode(data), channels)


def decode_mask(data: bytes) -> Pixels:
    """Return (H, W) values of a mask file."""
    return np.ascontiguousarray(to_channels(_decode(data), 1)[:, :, 0])


def _decode(data: bytes) -> Pixels:
    if is_npy(data):
        start, shape = npy_layout(data)
        return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
    if data[:3] == _JPEG:
        import simplejpeg  # type: ignore[import-untyped]

        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            if colours in ("Gray", "GRAY"):
                grey: Pixels = simplejpeg.decode_jpeg(data, "GRAY")
                return grey.reshape(height, width, 1)
            if colours not in ("CMYK", "YCCK"):
                rgb: Pixels = simplejpeg.decode_jpeg(data)
                return rgb
        except ValueError:
            pass  # Pillow reads some files that simplejpeg refuses.
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        grey_modes = {"1", "L", "I;16", "I", "F", "LA"}
        pixels = np.asarray(image.convert("L" if image.mode in grey_modes else "RGB"))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def is_npy(data: bytes) -> bool:
    """Return whether `data` is an npy file."""
    return data[:6] == _NPY


def npy_layout(data: bytes) -> tuple[int, tuple[int, int, int]]:
    """Return the offset of the pixels in an npy file of (H, W) or (H, W, C) uint8, and their shape (H, W, C).

    Raises:
        ValueError: the file holds another array.
    """
    size = int.from_bytes(data[8:10], "little") if data[6] == 1 else int.from_bytes(data[8:12], "little")
    start = (10 if data[6] == 1 else 12) + size
    return start, _npy_shape(data[:start][-size:])


@lru_cache(maxsize=64)
def _npy_shape(header: bytes) -> tuple[int, int, int]:
    facts = ast.literal_eval(header.decode("latin-1").strip())
    shape = facts["shape"]
    if facts["descr"] not in ("|u1", "u1") or facts["fortran_order"] or len(shape) not in (2, 3):
        raise ValueError(f"an npy image is (H, W) or (H, W, C) of uint8, not {facts}")
    return (*shape[:2], shape[2] if len(shape) == 3 else 1)


def to_channels(image: Pixels, channels: int) -> Pixels:
    """Return (H, W, C) from (H, W, 1 or 3): grey is repeated; colour becomes luma as in Pillow's `convert("L")`."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    weighed = image.astype(np.uint32) @ np.asarray([19595, 38470, 7471], np.uint32)
    return ((weighed + 0x8000) >> 16).astype(np.uint8)[:, :, None]
