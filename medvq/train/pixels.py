"""From stored bytes to what a network reads, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Pixels:
    """Shifts and scales channels: x = (u - mean) / std with u in [0, 1]; each dataset of a mixture by its own."""

    def __init__(self, parts: Sequence[tuple[Sequence[float], Sequence[float]]], device: torch.device) -> None:
        """`parts` are the mean and the standard deviation of every channel, for each dataset or one for all."""
        self.parts = [(list(mean), list(std)) for mean, std in parts]
        means, stds = (torch.tensor(values, device=device) for values in zip(*self.parts, strict=True))
        self._mean, self._std = means[:, :, None, None], stds[:, :, None, None]  # (P, C, 1, 1)

    @property
    def device(self) -> torch.device:
        """Where the images must be."""
        return self._mean.device

    def normalize(self, image: Tensor, part: Tensor) -> Tensor:
        """uint8 (B, C, H, W) in [0, 255] as float32; `part` (B,) is the dataset that each comes from."""
        mean, std = self.of(part)
        return (image.float() / 255 - mean) / std

    def unit(self, x: Tensor, part: Tensor) -> Tensor:
        """Normalized (B, C, H, W) back to [0, 1]; what lies outside is clipped."""
        mean, std = self.of(part)
        return (x.float() * std + mean).clamp(0, 1)

    def black(self, part: Tensor) -> Tensor:
        """(B, C, 1, 1), or (1, C, 1, 1) where all are alike: what a black pixel becomes."""
        mean, std = self.of(part)
        return -mean / std

    def of(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, C, 1, 1), or (1, C, 1, 1) where all are alike."""
        if len(self.parts) == 1:
            return self._mean, self._std
        return self._mean[part], self._std[part]

    @classmethod
    def from_metadata(cls, record: Mapping[str, Any], device: torch.device) -> Pixels:
        """Return the pixels that `metadata` describes."""
        parts = record.get("parts") or [record]
        return cls([(part["mean"], part["std"]) for part in parts], device)

    def metadata(self) -> dict[str, object]:
        """What a reader of the weights needs to know."""
        if len(self.parts) == 1:
            return {"mean": self.parts[0][0], "std": self.parts[0][1]}
        return {"parts": [{"mean": mean, "std": std} for mean, std in self.parts]}
