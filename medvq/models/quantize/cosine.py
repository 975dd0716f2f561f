"""Codes on the unit sphere of a low-dimensional projection (Yu et al. 2022, ViT-VQGAN §3.2)."""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from medvq.models.quantize.codebook import Init
from medvq.models.quantize.ema import EMAQuantizer
from medvq.models.quantize.settings import CodebookSettings, CosineSettings


class CosineQuantizer(EMAQuantizer):
    """Vectors are projected to d dimensions and normalised; the nearest code is the one of largest cosine.

    Codes are moving averages, normalised; the chosen one is projected back to D dimensions. Few dimensions keep codes
    in use, and the norm keeps the losses from growing with the encoder's outputs.
    """

    Settings = CosineSettings

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        dim: int = 16,
        beta: float = 0.25,
        decay: float = 0.99,
        eps: float = 1e-5,
        init: Init = "kmeans",
        revive: float = 0.02,
        name: str = "codebook",
    ) -> None:
        """`dim` is d."""
        super().__init__(
            codebook_size, code_dim, beta=beta, decay=decay, eps=eps, init=init, revive=revive, name=name, dim=dim
        )
        self.project_in = nn.Conv2d(code_dim, dim, 1)
        self.project_out = nn.Conv2d(dim, code_dim, 1)
        self._put(self.codebook)

    @classmethod
    def from_settings(cls, settings: CosineSettings, codebooks: CodebookSettings, name: str) -> Self:
        """Make the quantizer that a study describes; see `Quantizer.from_settings`."""
        return cls(
            codebooks.codebook_size,
            codebooks.code_dim,
            dim=settings.dim,
            beta=codebooks.beta,
            decay=codebooks.decay,
            init=codebooks.init,
            revive=codebooks.revive,
            name=name,
        )

    def project(self, z: Tensor) -> Tensor:
        """The input (B, D, H, W) on the unit sphere (B, d, H, W)."""
        return F.normalize(self.project_in(z), dim=1)

    def unproject(self, codes: Tensor) -> Tensor:
        """Codes (B, d, H, W) as (B, D, H, W)."""
        out: Tensor = self.project_out(codes)
        return out

    def _learn(self, *totals: Tensor) -> None:
        super()._learn(*totals)
        self.codebook.copy_(F.normalize(self.codebook, dim=1))

    def _put(self, codes: Tensor) -> None:
        super()._put(F.normalize(codes, dim=1))
