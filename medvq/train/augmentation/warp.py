"""Resample a batch of images, each with its own rotation, scale, shift and elastic deformation, in one pass.

The pixels are those that torchvision's `rotate`, `affine` and `elastic` give image by image, without their ten small
kernels per image. All four changes share one resampling, so that an image is interpolated once.

The loader has a rotation of its own, `medvq.shards.load.geometry.rotated_window`. It rotates only the part of a large
image that a window shows, works in float64 because such images have many pixels, and blends with the fill once.
torchvision, and this module with it, blends with the fill twice at the edge of an image. The numbers of past runs
depend on both, so they are not one function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medvq.train.augmentation.chunks import chunks


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How each of B images moves: it is scaled and rotated about its centre, shifted, and bent. Tensors on the CPU."""

    angle: Tensor
    """(B,) degrees, counter-clockwise."""
    scale: Tensor
    """(B,) factors; above 1 the image grows."""
    shift: Tensor
    """(B, 2) pixels to the right and down."""
    bend: Tensor | None = None
    """(B, 2, rows, columns) displacement in pixels, across and down, of control points spread evenly over the image."""

    def __len__(self) -> int:
        return len(self.angle)

    def __getitem__(self, which: Tensor | slice) -> Motion:
        """Return the motion of some of the images."""
        bend = None if self.bend is None else self.bend[which]
        return Motion(angle=self.angle[which], scale=self.scale[which], shift=self.shift[which], bend=bend)

    def moves(self) -> Tensor:
        """Return (B,) bool: which images change at all."""
        moves = (self.angle != 0) | (self.scale != 1) | (self.shift != 0).any(1)
        return moves if self.bend is None else moves | self.bend.flatten(1).any(1)


def warp(x: Tensor, motion: Motion, fill: Tensor | None, mode: str) -> Tensor:
    """Return the images x (B, C, H, W) moved by `motion`.

    `mode` is `bilinear`, or `nearest` for masks. Places that come from outside an image get the colour `fill`
    (B or 1, C, 1, 1) float, or 0 without it. Pixels of an integer type are rounded.
    """
    height, width = x.shape[-2:]
    base, matrices = _base(height, width, x.device), _matrices(motion, height, width).to(x.device, non_blocking=True)
    if motion.bend is not None:
        in_grid = motion.bend * torch.tensor([2 / width, 2 / height]).view(2, 1, 1)  # from pixels
        bend = in_grid.to(x.device, non_blocking=True)
        down, across = _shares(bend.shape[2], height, x.device), _shares(bend.shape[3], width, x.device).T
    warped = []
    for here in chunks(x):
        grid = (base.expand(here.stop - here.start, -1, -1) @ matrices[here]).view(-1, height, width, 2)
        if motion.bend is not None:
            grid += (down @ bend[here] @ across).permute(0, 2, 3, 1)
        colour = fill if fill is None or len(fill) == 1 else fill[here]
        warped.append(_sample(x[here], grid, colour, mode))
    return torch.cat(warped) if len(warped) > 1 else warped[0]


def _sample(x: Tensor, grid: Tensor, fill: Tensor | None, mode: str) -> Tensor:
    """Return x (B, C, H, W) read at the places `grid` (B, H, W, 2), in [-1, 1] between the edges."""
    pixels = x if x.is_floating_point() else x.float()
    grid = grid.to(pixels.dtype)
    if fill is None:
        sampled = F.grid_sample(pixels, grid, mode=mode, align_corners=False)
    else:
        inside = pixels.new_ones((len(x), 1, *x.shape[-2:]))
        sampled = F.grid_sample(torch.cat([pixels, inside], 1), grid, mode=mode, align_corners=False)
        sampled, inside = sampled[:, :-1], sampled[:, -1:]  # (B, C, H, W), (B, 1, H, W)
        if mode == "nearest":
            sampled = torch.where(inside < 0.5, fill, sampled)
        else:
            sampled = (sampled - fill).mul_(inside).add_(fill)
    return sampled if x.is_floating_point() else sampled.round_().to(x.dtype)


def _base(height: int, width: int, device: torch.device) -> Tensor:
    """Return (1, H·W, 3): the offset of each pixel from the centre, across and down, and 1."""
    across = torch.linspace((1 - width) * 0.5, (width - 1) * 0.5, width, device=device).expand(height, width)
    down = torch.linspace((1 - height) * 0.5, (height - 1) * 0.5, height, device=device)[:, None].expand(height, width)
    return torch.stack([across, down, torch.ones_like(across)], -1).view(1, height * width, 3)


def _matrices(motion: Motion, height: int, width: int) -> Tensor:
    """Return (B, 3, 2): from (offset across, offset down, 1) of a pixel to where its colour comes from, in [-1, 1]."""
    sources = []
    for angle, scale, (across, down) in zip(
        motion.angle.tolist(), motion.scale.tolist(), motion.shift.tolist(), strict=True
    ):
        # The source of a pixel is the inverse motion. Rows of an image count downwards.
        cos, sin = math.cos(math.radians(angle % 360)) / scale, math.sin(math.radians(angle % 360)) / scale
        sources.append(
            [[cos, sin], [-sin, cos], [0.0 - (across * cos - down * sin), 0.0 - (across * sin + down * cos)]]
        )
    return torch.tensor(sources, dtype=torch.float32) / torch.tensor([0.5 * width, 0.5 * height])


def _shares(points: int, side: int, device: torch.device) -> Tensor:
    """Return (side, points): the share of each of `points` in each of `side` pixels, by cubic interpolation."""
    each = torch.eye(points, device=device)[None, :, :, None]  # (1, points, points, 1): a channel for each point
    return F.interpolate(each, size=(side, 1), mode="bicubic", align_corners=True)[0, :, :, 0].T
