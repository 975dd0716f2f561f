"""Quantizer whose codes are trained by gradient descent (VQ-VAE, van den Oord et al. 2017, eq. 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medvq.models.quantize.codebook import CodebookQuantizer, Init
from medvq.models.quantize.kmeans import count_codes
from medvq.models.quantize.settings import GradientSettings


class GradientQuantizer(CodebookQuantizer):
    """Codes are a parameter, trained by the codebook loss: penalty = mean (sg z − e)² + β · mean (z − sg e)².

    The first term trains the codes, the second one the encoder. DDP averages the gradient of the codes over ranks, as
    for any parameter.
    """

    Settings = GradientSettings

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        beta: float = 0.25,
        decay: float = 0.99,
        init: Init = "uniform",
        revive: float = 0.0,
        name: str = "codebook",
    ) -> None:
        """Create the quantizer; see `CodebookQuantizer` for the arguments."""
        super().__init__(codebook_size, code_dim, beta=beta, decay=decay, init=init, revive=revive, name=name)
        self.codebook = nn.Parameter(self._random_codes(code_dim))

    def _codebook_loss(self, rows: Tensor, indices: Tensor) -> dict[str, Tensor]:
        codes = F.embedding(indices, self.codebook.detach() if self.frozen else self.codebook)
        return {"codebook": F.mse_loss(codes, rows)}

    def _statistics(self, rows: Tensor, indices: Tensor) -> list[Tensor]:
        return [count_codes(indices, self.codebook_size)] if self.revive else []

    def _update_codes(self, *totals: Tensor) -> None:
        pass

    def _set_codes(self, codes: Tensor) -> None:
        self.codebook.copy_(codes)
