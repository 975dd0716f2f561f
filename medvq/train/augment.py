"""Random changes of training images, drawn for the global batch: every number of workers sees the same pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from medvq.config.data import Augment
from medvq.models.draws import Draws
from medvq.shards.dataset.manifest import INSIDE
from medvq.train.rotate import rotate

KEEP = 255
CORNER = 1
"""Marks the new corners of a rotated mask where they are not to keep the pixel, as published."""


def augment(
    x: Tensor,
    keep: Tensor | None,
    settings: Augment,
    draws: Draws,
    fill: Tensor | None = None,
    turned: Tensor | None = None,
    corner: int = KEEP,
) -> tuple[Tensor, Tensor | None]:
    """Flip and rotate normalized images (B, C, H, W) and, in the same way, their masks (B, 1, H, W) uint8.

    New corners of images take `fill` (B or 1, C, 1, 1), without it 0, the dataset's mean colour; those of masks take
    `corner`, by default keep the pixel (SPEC §1, mistake 3). `turned` (B,) on the CPU marks images that were turned
    before they were cut out.
    """
    if settings.flip:
        for axis, purpose in ((-1, "flip left-right"), (-2, "flip top-bottom")):
            chosen = (draws.uniform((x.shape[0],), purpose, x.device) < 0.5).view(-1, 1, 1, 1)
            x = torch.where(chosen, x.flip(axis), x)
            keep = None if keep is None else torch.where(chosen, keep.flip(axis), keep)
    if settings.rotate:
        drawn = (draws.uniform((x.shape[0],), "rotate") * 2 - 1) * settings.rotate
        angles = drawn if turned is None else torch.where(turned, 0.0, drawn)
        x = _rotated(x, angles, fill, "bilinear")
        if keep is not None:
            keep = _rotated(keep, angles, torch.full((1, 1, 1, 1), float(corner), device=x.device), "nearest")
    return x, keep


def masked(x: Tensor, keep: Tensor, draws: Draws) -> Tensor:
    """x (B, C, H, W) with noise where the mask (B, 1, H, W) uint8 does not keep it: x_m = m·x + (1 − m)·N(0, 1).

    Pixels are normalized, so N(0, 1) is noise of the dataset's own mean and deviation; nothing is clipped, and an
    image without a mask, which keeps everything, comes back as it was (SPEC §1, mistake 3).
    """
    return torch.where(keep >= INSIDE, x, draws.normal(x.shape, "mask noise", x.device))


def masked_as_published(x: Tensor, keep: Tensor, draws: Draws, mean: Tensor, std: Tensor) -> Tensor:
    """SPEC §1, mistake 3: m·x + (1 − m)·noise of normalized x (B, C, H, W), clipped to [0, 1].

    Noise of `std` and `mean` (B or 1, C, 1, 1) is in units of pixels where x is not, and the clip changes images
    without a mask as well. In new corners, which `keep` (B, 1, H, W) uint8 marks by CORNER, m is 1 − mean: the
    published code turned the inverted mask with the images' fill, their mean colour.
    """
    noise = draws.normal(x.shape, "mask noise", x.device) * std + mean
    m = torch.where(keep == CORNER, 1 - mean, (keep >= INSIDE).to(x.dtype))  # (B, C, H, W)
    return (m * x + (1 - m) * noise).clamp(0, 1)


def _rotated(x: Tensor, angles: Tensor, fill: Tensor | None, mode: str) -> Tensor:
    """x (B, C, H, W) turned by angles (B,); what is not to be turned stays as it is, to the bit."""
    which = angles.nonzero().flatten()
    if len(which) == len(x):
        return rotate(x, angles.tolist(), fill, mode)
    if len(which) == 0:
        return x
    here = which.to(x.device)
    colours = fill if fill is None or len(fill) == 1 else fill[here]
    return x.index_copy(0, here, rotate(x[here], angles[which].tolist(), colours, mode))
