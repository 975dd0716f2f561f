"""From stored bytes to what a network reads, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Pixels:
    """Shifts and scales channels: x = (u - mean) / std with u in [0, 1]."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.mean, self.std = list(mean), list(std)
        self._mean = torch.tensor(self.mean, device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(self.std, device=device).view(1, -1, 1, 1)

    def normalize(self, image: Tensor) -> Tensor:
        """uint8 (B, C, H, W) in [0, 255] as float32 of mean 0 and standard deviation 1 over the training split."""
        return (image.float() / 255 - self._mean) / self._std

    def unit(self, x: Tensor) -> Tensor:
        """Normalized (B, C, H, W) back to [0, 1]; what lies outside is clipped."""
        return (x.float() * self._std + self._mean).clamp(0, 1)
