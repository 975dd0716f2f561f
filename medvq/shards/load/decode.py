"""Bytes to pixels, and pixels to a size.

JPEGs are decoded by libjpeg-turbo in full (no scaled decoding: that gives other pixels), everything else by Pillow.
Resizing is bilinear with antialiasing, in uint8, by torch: within 1 of 255 of Pillow's and faster.
"""

from __future__ import annotations

import ast
import io
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_JPEG, _NPY = b"\xff\xd8\xff", b"\x93NUMPY"


def decode_image(data: bytes, channels: int) -> Pixels:
    """(H, W, C) uint8 pixels of an image file; grey and colour are converted as Pillow does.

    Raises:
        ValueError, OSError: the bytes are no image.
    """
    return to_channels(_decode(data), channels)


def decode_mask(data: bytes) -> Pixels:
    """(H, W) uint8 values of a mask file."""
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
            pass  # What its strictness refuses, Pillow may still read; it has the last word.
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        grey_modes = {"1", "L", "I;16", "I", "F", "LA"}
        pixels = np.asarray(image.convert("L" if image.mode in grey_modes else "RGB"))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def is_npy(data: bytes) -> bool:
    """Whether `data` is an npy file."""
    return data[:6] == _NPY


def npy_layout(data: bytes) -> tuple[int, tuple[int, int, int]]:
    """Where the pixels of an npy file of (H, W) or (H, W, C) uint8 start, and their shape (H, W, C).

    Raises:
        ValueError: it holds something else.
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
    """(H, W, C) from (H, W, 1 or 3): grey is repeated; colour becomes luma as in Pillow's `convert("L")`."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    weighed = image.astype(np.uint32) @ np.asarray([19595, 38470, 7471], np.uint32)
    return ((weighed + 0x8000) >> 16).astype(np.uint8)[:, :, None]


def resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, C) resized to `size` (H, W): antialiased bilinear."""
    if image.shape[:2] == size:
        return image
    import torch
    from torch.nn.functional import interpolate

    # (1, H, W, C) before it is turned to (1, C, H, W): so torch sees a channels-last batch and takes its fast path.
    x = torch.from_numpy(image if image.flags.writeable else image.copy())[None].permute(0, 3, 1, 2)
    out: Any = interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
    pixels: Pixels = out[0].permute(1, 2, 0).numpy()
    return pixels


def resize_nearest(mask: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W) values resized to `size`: the value under the centre of every new pixel."""
    if mask.shape == size:
        return mask
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, mask.shape, strict=True))
    out: Pixels = mask[rows[:, None], columns]
    return out


def crop_window(shape: tuple[int, int], size: tuple[int, int], at: tuple[float, float]) -> tuple[slice, slice]:
    """The window of `size` in an image of `shape`; `at` in [0, 1) each is where, down and across."""
    tops = (int(a * (old - new + 1)) for a, old, new in zip(at, shape, size, strict=True))
    top, left = tops
    return slice(top, top + size[0]), slice(left, left + size[1])


def cover(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """`shape` enlarged, aspect kept, until it covers `size`; unchanged where it does already."""
    if shape[0] >= size[0] and shape[1] >= size[1]:
        return shape
    # In integers: the side that is shorter by the larger factor comes out exact, the other is rounded up.
    if size[0] * shape[1] >= size[1] * shape[0]:
        return size[0], max(size[1], -(-shape[1] * size[0] // shape[0]))
    return max(size[0], -(-shape[0] * size[1] // shape[1])), size[1]


def turned_window(
    image: Pixels, size: tuple[int, int], at: tuple[float, float], degrees: float, fill: Sequence[int], mode: str
) -> Pixels:
    """Return a window of `size` (h, w), cut from an image (H, W, C) after its rotation about its centre.

    The rotation is counter-clockwise by `degrees`. `mode` is bilinear or nearest. Only the part of the image that the
    window needs is rotated. Places outside the image get `fill` (C,).

    Training has another rotation, `medvq.train.warp`, which works on whole batches of small images as torchvision does.
    The two differ by rounding, and at the edge of the image, where torchvision blends with the fill twice. Past results
    depend on both, so they are not one function.
    """
    import torch
    from torch.nn.functional import grid_sample

    height, width, channels = image.shape
    rows, columns = crop_window((height, width), size, at)
    y = torch.arange(rows.start, rows.stop, dtype=torch.float64)[:, None] + 0.5 - height / 2
    x = torch.arange(columns.start, columns.stop, dtype=torch.float64)[None, :] + 0.5 - width / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    from_x, from_y = cos * x - sin * y + width / 2, sin * x + cos * y + height / 2  # (h, w) places in the image
    left, right = _reach(from_x.min().item(), from_x.max().item(), width)
    top, bottom = _reach(from_y.min().item(), from_y.max().item(), height)
    colour = torch.tensor(list(fill), dtype=torch.float32)
    needed = torch.from_numpy(image[top:bottom, left:right].copy()).float() - colour
    grid = torch.stack([2 * (from_x - left) / (right - left) - 1, 2 * (from_y - top) / (bottom - top) - 1], -1)
    turned = grid_sample(needed.permute(2, 0, 1)[None], grid[None].float(), mode=mode, align_corners=False)[
        0
    ]  # (C, h, w)
    pixels: Pixels = (turned.permute(1, 2, 0) + colour).round().clamp(0, 255).to(torch.uint8).numpy()
    return pixels.reshape(*size, channels)


def _reach(low: float, high: float, length: int) -> tuple[int, int]:
    """First pixel and end of what places from `low` to `high` touch of `length` pixels; at least one pixel."""
    first = min(max(int(low) - 1, 0), length - 1)
    return first, max(min(int(high) + 2, length), first + 1)
