"""Random flips and motions of training images together with their masks, and noise outside masks.

Every parameter is drawn for the global batch, so that the pixels do not depend on the number of workers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medvq.config.augment import Augment, Elastic
from medvq.models.draws import Draws
from medvq.shards.dataset.manifest import INSIDE
from medvq.train.augmentation.warp import Motion, warp

KEEP = 255
CORNER = 1
"""Value of a mask in new corners that do not keep the pixel, as in the published code."""


def augment(
    x: Tensor,
    keep: Tensor | None,
    settings: Augment,
    draws: Draws,
    fill: Tensor | None = None,
    turned: Tensor | None = None,
    corner: int = KEEP,
) -> tuple[Tensor, Tensor | None]:
    """Flip and move normalized images (B, C, H, W), and their masks (B, 1, H, W) uint8 in the same way.

    Where nothing was before, images get `fill` (B or 1, C, 1, 1), or 0 without it, the dataset's mean colour. Masks
    get `corner`, by default 255: the pixel is kept. (The published code did not keep it: see CORNER and
    jobs/PUBLISHED.md, svqvae-wbc.) `turned` (B,) bool on the CPU marks images that the loader rotated before it cut a
    window out of them; they are not rotated again.
    """
    if settings.flip:
        for axis, purpose in ((-1, "flip left-right"), (-2, "flip top-bottom")):
            chosen = (draws.uniform((x.shape[0],), purpose, x.device) < 0.5).view(-1, 1, 1, 1)
            x = torch.where(chosen, x.flip(axis), x)
            keep = None if keep is None else torch.where(chosen, keep.flip(axis), keep)
    if settings.rotate or settings.scale or settings.translate or settings.elastic:
        motion = _motion(len(x), (x.shape[-2], x.shape[-1]), settings, draws, turned)
        x = _moved(x, motion, fill, "bilinear")
        if keep is not None:
            keep = _moved(keep, motion, torch.full((1, 1, 1, 1), float(corner), device=x.device), "nearest")
    return x, keep


def masked(x: Tensor, keep: Tensor, draws: Draws) -> Tensor:
    """Return x (B, C, H, W) with noise where the mask m (B, 1, H, W) uint8 does not keep it: m·x + (1 − m)·N(0, 1).

    Pixels are normalized, so N(0, 1) is noise with the dataset's own mean and standard deviation. Nothing is clipped,
    and an image without a mask, which keeps every pixel, is returned unchanged.
    """
    return torch.where(keep >= INSIDE, x, draws.normal(x.shape, "mask noise", x.device))


def masked_as_published(x: Tensor, keep: Tensor, draws: Draws, mean: Tensor, std: Tensor) -> Tensor:
    """Return m·x + (1 − m)·noise of normalized x (B, C, H, W), clipped to [0, 1]: a mistake of the published code.

    The noise has `mean` and `std` (B or 1, C, 1, 1), which are in units of pixels, while x is normalized. The clip
    changes images without a mask as well. In new corners, which `keep` (B, 1, H, W) uint8 marks by CORNER, m is
    1 − mean, because the published code rotated the inverted mask with the images' fill, their mean colour. See
    jobs/PUBLISHED.md, svqvae-wbc.
    """
    noise = draws.normal(x.shape, "mask noise", x.device) * std + mean
    m = torch.where(keep == CORNER, 1 - mean, (keep >= INSIDE).to(x.dtype))  # (B, C, H, W)
    return (m * x + (1 - m) * noise).clamp(0, 1)


def _motion(count: int, size: tuple[int, int], settings: Augment, draws: Draws, turned: Tensor | None) -> Motion:
    """Draw the motion of `count` images of `size` (H, W)."""
    angle, scale, shift, bend = torch.zeros(count), torch.ones(count), torch.zeros(count, 2), None
    if settings.rotate:
        angle = (draws.uniform((count,), "rotate") * 2 - 1) * settings.rotate
        angle = angle if turned is None else torch.where(turned, 0.0, angle)
    if settings.scale:
        low, high = settings.scale.factor
        scale = low + (high - low) * draws.uniform((count,), "scale")
        scale = torch.where(draws.chance(count, settings.scale.p, "scale applies"), scale, 1.0)
    if settings.translate:
        sides = torch.tensor([size[1], size[0]])
        shift = (draws.uniform((count, 2), "translate") * 2 - 1) * settings.translate.fraction * sides
        applies = draws.chance(count, settings.translate.p, "translate applies")
        shift = torch.where(applies[:, None], shift.round(), 0.0)
    if settings.elastic:
        bend = _bend(count, size, settings.elastic, draws)
    return Motion(angle=angle, scale=scale, shift=shift, bend=bend)


def _bend(count: int, size: tuple[int, int], elastic: Elastic, draws: Draws) -> Tensor:
    """Draw (count, 2, rows, columns) displacements of control points on images of `size` (H, W)."""
    rows, columns = (max(2, round((side - 1) / elastic.spacing) + 1) for side in size)
    bend = draws.normal((count, 2, rows, columns), "elastic") * elastic.displacement
    applies = draws.chance(count, elastic.p, "elastic applies")
    return torch.where(applies[:, None, None, None], bend, 0.0)


def _moved(x: Tensor, motion: Motion, fill: Tensor | None, mode: str) -> Tensor:
    """Return x (B, C, H, W) moved. An image that does not move keeps its exact bits."""
    which = motion.moves().nonzero().flatten()
    if len(which) == len(x):
        return warp(x, motion, fill, mode)
    if len(which) == 0:
        return x
    here = which.to(x.device)
    colours = fill if fill is None or len(fill) == 1 else fill[here]
    return x.index_copy(0, here, warp(x[here], motion[which], colours, mode))
