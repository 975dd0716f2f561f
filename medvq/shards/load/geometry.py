"""Resize images, cut windows out of them, and rotate what a window shows.

Arrays are uint8, (H, W, C) for images and (H, W) for masks. Sizes are (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medvq.shards.image.arrays import Pixels

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]
Window = tuple[slice, slice]
"""Rows and columns."""


def resize(image: Pixels, size: Size) -> Pixels:
    """Return (H, W, C) resized to `size`: antialiased bilinear by torch, within 1 of 255 of Pillow's and faster."""
    if image.shape[:2] == size:
        return image
    import torch
    from torch.nn.functional import interpolate

    # (1, H, W, C) is permuted to (1, C, H, W), so that torch sees a channels-last batch and takes its fast path.
    x = torch.from_numpy(image if image.flags.writeable else image.copy())[None].permute(0, 3, 1, 2)
    out: Any = interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
    pixels: Pixels = out[0].permute(1, 2, 0).numpy()
    return pixels


def resize_nearest(mask: Pixels, size: Size) -> Pixels:
    """Return (H, W) resized to `size`: each new pixel takes the value under its centre."""
    if mask.shape == size:
        return mask
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, mask.shape, strict=True))
    out: Pixels = mask[rows[:, None], columns]
    return out


def cover(shape: Size, size: Size) -> Size:
    """Return the smallest size not below `shape`, of the same aspect ratio, that covers `size`."""
    if shape[0] >= size[0] and shape[1] >= size[1]:
        return shape
    # In whole numbers: the side that grows by the larger factor is exact, the other is rounded up.
    if size[0] * shape[1] >= size[1] * shape[0]:
        return size[0], max(size[1], -(-shape[1] * size[0] // shape[0]))
    return max(size[0], -(-shape[0] * size[1] // shape[1])), size[1]


def crop_window(shape: Size, size: Size, at: tuple[float, float]) -> Window:
    """Return a window of `size` in an image of `shape`; `at` in [0, 1) is its position, down and across."""
    top, left = (int(a * (old - new + 1)) for a, old, new in zip(at, shape, size, strict=True))
    return slice(top, top + size[0]), slice(left, left + size[1])


def rotated_window(image: Pixels, window: Window, degrees: float, fill: Sequence[int], mode: str) -> Pixels:
    """Return the window of (H, W, C) as if the whole image had been rotated about its centre before cutting.

    Only the part of the image that the window shows is rotated. Training has another rotation,
    `medvq.train.augmentation.warp`, of whole batches of small images as torchvision does it. The two differ by
    rounding, and at the edge of the image, where torchvision blends with the fill twice. Past results depend on both,
    so they are not one function.

    Args:
        image: (H, W, C).
        window: where to cut.
        degrees: angle, counter-clockwise.
        fill: (C,) values outside the image.
        mode: `bilinear`, or `nearest` to keep the values of a mask.
    """
    import torch
    from torch.nn.functional import grid_sample

    x, y = _source_points(image.shape[:2], window, degrees)
    left, right = _reach(x, image.shape[1])
    top, bottom = _reach(y, image.shape[0])
    # `grid_sample` gives 0 outside, so that the fill is subtracted before and added afterwards.
    colour = torch.tensor(list(fill), dtype=torch.float32)
    part = torch.from_numpy(image[top:bottom, left:right].copy()).float() - colour
    # It wants coordinates from -1 (left or top edge) to 1 (right or bottom edge of the part).
    grid = torch.stack([2 * (x - left) / (right - left) - 1, 2 * (y - top) / (bottom - top) - 1], -1).float()
    rotated = grid_sample(part.permute(2, 0, 1)[None], grid[None], mode=mode, align_corners=False)[0]  # (C, h, w)
    pixels: Pixels = (rotated.permute(1, 2, 0) + colour).round().clamp(0, 255).to(torch.uint8).numpy()
    return pixels


def _source_points(shape: Size, window: Window, degrees: float) -> tuple[Tensor, Tensor]:
    """Return (h, w) float64 x and y in the image that the pixels of a window show after a rotation.

    A pixel at the offset (x, y) from the centre of the image shows the point (cos·x - sin·y, sin·x + cos·y).
    """
    import torch

    height, width = shape
    rows, columns = window
    y = torch.arange(rows.start, rows.stop, dtype=torch.float64)[:, None] + 0.5 - height / 2
    x = torch.arange(columns.start, columns.stop, dtype=torch.float64)[None, :] + 0.5 - width / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cos * x - sin * y + width / 2, sin * x + cos * y + height / 2


def _reach(points: Tensor, length: int) -> tuple[int, int]:
    """Return the range, [first, end), of pixels of `length` that interpolation at `points` reads; at least one."""
    low, high = points.min().item(), points.max().item()
    first = min(max(int(low) - 1, 0), length - 1)
    return first, max(min(int(high) + 2, length), first + 1)
