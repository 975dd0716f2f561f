"""Quantizer with unit-length codes in a low-dimensional projection (ViT-VQGAN, Yu et al. 2022, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from medvq.models.quantize.codebook import Init
from medvq.models.quantize.ema import EMAQuantizer
from medvq.models.quantize.settings import CodebookSettings, CosineSettings


class CosineQuantizer(EMAQuantizer):
    """Projects vectors to d dimensions, normalises them, and chooses the code with the largest cosine similarity.

    Codes are moving averages with unit length. The chosen code is projected back to D dimensions. A small d increases
    the share of codes in use; the normalisation keeps losses independent of the length of encoder outputs.
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
        """Create the quantizer; `dim` is d, the other arguments are those of `EMAQuantizer`."""
        super().__init__(
            codebook_size, code_dim, beta=beta, decay=decay, eps=eps, init=init, revive=revive, name=name, dim=dim
        )
        self.project_in = nn.Conv2d(code_dim, dim, 1)
        self.project_out = nn.Conv2d(dim, code_dim, 1)
        self._set_codes(self.codebook)

    @classmethod
    def options(cls, settings: CosineSettings, codebooks: CodebookSettings) -> dict[str, Any]:
        """Return the keyword arguments that the settings of a study determine, besides the name."""
        return {"dim": settings.dim, **super().options(settings, codebooks)}

    def project(self, z: Tensor) -> Tensor:
        """Project the input (B, D, H, W) to unit vectors (B, d, H, W)."""
        return F.normalize(self.project_in(z), dim=1)

    def unproject(self, codes: Tensor) -> Tensor:
        """Project codes (B, d, H, W) back to (B, D, H, W)."""
        out: Tensor = self.project_out(codes)
        return out

    def _update_codes(self, *totals: Tensor) -> None:
        super()._update_codes(*totals)
        self.codebook.copy_(F.normalize(self.codebook, dim=1))

    def _set_codes(self, codes: Tensor) -> None:
        super()._set_codes(F.normalize(codes, dim=1))
