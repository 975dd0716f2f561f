"""A quantizer without a codebook that learns: each number becomes its sign."""

import torch
from torch import Tensor

from medvq.config.settings import QuantizerSettings
from medvq.models.quantize.base import Quantized, Quantizer, straight_through


class Sign(Quantizer):
    """(B, D, H, W) to corners of a cube: K = 2^D codes of length D, each number ±scale."""

    class Settings(QuantizerSettings):
        """Settings of Sign."""

        scale: float = 1.0
        """Size of each number of a code."""

        def check(self, code_dim: int) -> None:
            """Raise ValueError if there would be too many codes."""
            if code_dim > 10:
                raise ValueError(f"2^{code_dim} codes are too many; a code_dim of 10 is the most")

    def __init__(self, code_dim: int, scale: float, name: str) -> None:
        super().__init__(2**code_dim, code_dim, name=name)
        self.scale = scale

    @classmethod
    def from_settings(cls, settings, codebooks, name):
        """Make the quantizer that a study describes."""
        return cls(codebooks.code_dim, settings.scale, name)

    def quantize(self, z: Tensor, draws: object) -> Quantized:
        """Quantize z (B, D, H, W)."""
        bits = (z > 0).long()
        radix = 2 ** torch.arange(self.code_dim).view(-1, 1, 1)
        passed, commitment = straight_through(z, self.scale * (2.0 * bits - 1))
        return Quantized(
            z_q=passed, indices=(bits * radix).sum(1), losses={"commitment": commitment}, penalty=0.25 * commitment
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes (B, D, H, W) of indices (B, H, W)."""
        bits = indices[:, None] // 2 ** torch.arange(self.code_dim).view(-1, 1, 1) % 2
        return self.scale * (2.0 * bits - 1)

    def table(self) -> Tensor:
        """All codes (K, D)."""
        return self.lookup(torch.arange(self.codebook_size).view(1, -1, 1))[0, :, :, 0].T
