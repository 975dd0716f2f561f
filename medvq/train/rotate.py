"""Turning a batch of images, each by an angle of its own, in one pass.

The same pixels as torchvision's `rotate` gives image by image, without its ten small kernels for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

IN_CACHE = 1 << 17
"""Elements of images that are turned at once on a CPU: more, and they leave its cache between two passes."""


def rotate(x: Tensor, angles: Sequence[float], fill: Tensor | None, mode: str) -> Tensor:
    """Images (B, C, H, W) turned about their centres, against the clock, by `angles` (B) in degrees.

    `mode` is `bilinear`, or `nearest` for masks. What comes from outside takes the colour `fill` (B or 1, C, 1, 1) of
    floats, without it 0. Integer pixels are rounded.
    """
    height, width = x.shape[-2:]
    at_once = max(1, IN_CACHE // x[0].numel()) if x.device.type == "cpu" else len(x)
    base, matrices = _base(height, width, x.device), _matrices(angles, height, width).to(x.device, non_blocking=True)
    turned = []
    for start in range(0, len(x), at_once):
        here = slice(start, start + at_once)
        colour = fill if fill is None or len(fill) == 1 else fill[here]
        turned.append(_turned(x[here], base, matrices[here], colour, mode))
    return torch.cat(turned) if len(turned) > 1 else turned[0]


def _turned(x: Tensor, base: Tensor, matrices: Tensor, fill: Tensor | None, mode: str) -> Tensor:
    """(B, C, H, W) seen through the `base` grid (1, H·W, 3) after `matrices` (B, 3, 2)."""
    pixels = x if x.is_floating_point() else x.float()
    grid = base.expand(len(x), -1, -1) @ matrices  # (B, H·W, 2)
    grid = grid.view(len(x), *x.shape[-2:], 2).to(pixels.dtype)
    if fill is None:
        turned = F.grid_sample(pixels, grid, mode=mode, align_corners=False)
    else:
        inside = pixels.new_ones((len(x), 1, *x.shape[-2:]))
        turned = F.grid_sample(torch.cat([pixels, inside], 1), grid, mode=mode, align_corners=False)
        turned, inside = turned[:, :-1], turned[:, -1:]  # (B, C, H, W), (B, 1, H, W)
        if mode == "nearest":
            turned = torch.where(inside < 0.5, fill, turned)
        else:
            turned = (turned - fill).mul_(inside).add_(fill)
    return turned if x.is_floating_point() else turned.round_().to(x.dtype)


def _base(height: int, width: int, device: torch.device) -> Tensor:
    """(1, H·W, 3) for each pixel how far it is from the centre, across and down, and 1."""
    across = torch.linspace((1 - width) * 0.5, (width - 1) * 0.5, width, device=device).expand(height, width)
    down = torch.linspace((1 - height) * 0.5, (height - 1) * 0.5, height, device=device)[:, None].expand(height, width)
    return torch.stack([across, down, torch.ones_like(across)], -1).view(1, height * width, 3)


def _matrices(angles: Sequence[float], height: int, width: int) -> Tensor:
    """(B, 3, 2) from the distance of a pixel to where its colour comes from, in [-1, 1] between the edges."""
    turns = [math.radians(a % 360) for a in angles]
    # Where a pixel comes from is the rotation the other way round; rows of an image count downwards.
    sources = [[[math.cos(t), math.sin(t)], [-math.sin(t), math.cos(t)], [0.0, 0.0]] for t in turns]
    return torch.tensor(sources, dtype=torch.float32) / torch.tensor([0.5 * width, 0.5 * height])
