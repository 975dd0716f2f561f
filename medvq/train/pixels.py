"""Convert stored bytes to the values that a network reads, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Pixels:
    """Normalize channels: x = (u - mean) / std with u in [0, 1]. Each dataset of a mixture has its own mean and std."""

    def __init__(self, parts: Sequence[tuple[Sequence[float], Sequence[float]]], device: torch.device) -> None:
        """Take the mean and the standard deviation of every channel, for each dataset or one pair for all of them."""
        self.parts = [(list(mean), list(std)) for mean, std in parts]
        means, stds = (torch.tensor(values, device=device) for values in zip(*self.parts, strict=True))
        self._mean, self._std = means[:, :, None, None], stds[:, :, None, None]  # (P, C, 1, 1)

    @property
    def device(self) -> torch.device:
        """Where the images must be."""
        return self._mean.device

    def normalize(self, image: Tensor, part: Tensor) -> Tensor:
        """Return uint8 images (B, C, H, W) in [0, 255] as normalized float32; `part` (B,) is the dataset of each."""
        return self.scale(image.float() / 255, part)

    def scale(self, u: Tensor, part: Tensor) -> Tensor:
        """Return pixels u (B, C, H, W) in [0, 1] normalized; `part` (B,) is the dataset of each image."""
        mean, std = self.of(part)
        return (u - mean) / std

    def unit(self, x: Tensor, part: Tensor) -> Tensor:
        """Return normalized x (B, C, H, W) as pixels, clipped to [0, 1]."""
        mean, std = self.of(part)
        return (x.float() * std + mean).clamp(0, 1)

    def black(self, part: Tensor) -> Tensor:
        """Return the normalized value of a black pixel: (B, C, 1, 1), or (1, C, 1, 1) if it is the same for all."""
        mean, std = self.of(part)
        return -mean / std

    def of(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation: (B, C, 1, 1), or (1, C, 1, 1) if they are the same for all images."""
        if len(self.parts) == 1:
            return self._mean, self._std
        return self._mean[part], self._std[part]

    @classmethod
    def from_metadata(cls, record: Mapping[str, Any], device: torch.device) -> Pixels:
        """Return the pixels that `metadata` describes."""
        parts = record.get("parts") or [record]
        return cls([(part["mean"], part["std"]) for part in parts], device)

    def metadata(self) -> dict[str, object]:
        """Return what a reader of the weights needs to know about pixels, as JSON data."""
        if len(self.parts) == 1:
            return {"mean": self.parts[0][0], "std": self.parts[0][1]}
        return {"parts": [{"mean": mean, "std": std} for mean, std in self.parts]}
