"""Random changes of training images, drawn for the global batch: every number of workers sees the same pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from medvq.config.study import Augment
from medvq.models.draws import Draws
from medvq.train.vision import functional


def augment(x: Tensor, settings: Augment, draws: Draws) -> Tensor:
    """Flip and rotate normalized images (B, C, H, W); new corners are 0, the dataset's mean colour."""
    if settings.flip:
        for axis, purpose in ((-1, "flip left-right"), (-2, "flip top-bottom")):
            chosen = draws.uniform((x.shape[0],), purpose, x.device) < 0.5
            x = torch.where(chosen.view(-1, 1, 1, 1), x.flip(axis), x)
    if settings.rotate:
        angles = (draws.uniform((x.shape[0],), "rotate") * 2 - 1) * settings.rotate
        rotate, bilinear = functional().rotate, functional().InterpolationMode.BILINEAR
        turned = [rotate(image, angle, interpolation=bilinear) for image, angle in zip(x, angles.tolist(), strict=True)]
        x = torch.stack(turned)  # (B, C, H, W)
    return x
