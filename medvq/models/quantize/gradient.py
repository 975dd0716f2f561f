"""A codebook learnt by gradient (van den Oord et al. 2017, eq. 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medvq.models.quantize.codebook import CodebookQuantizer, Init
from medvq.models.quantize.kmeans import count_codes
from medvq.models.quantize.settings import GradientSettings


class GradientQuantizer(CodebookQuantizer):
    """Codes are a parameter, moved by the codebook loss: penalty = ‖sg z − e‖² + β‖z − sg e‖².

    Being an ordinary parameter, it is averaged over ranks like any other. β weighs the encoder's term.
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
        super().__init__(codebook_size, code_dim, beta=beta, decay=decay, init=init, revive=revive, name=name)
        self.codebook = nn.Parameter(self._drawn(code_dim))

    def _codebook_loss(self, rows: Tensor, indices: Tensor) -> dict[str, Tensor]:
        codes = F.embedding(indices, self.codebook.detach() if self.frozen else self.codebook)
        return {"codebook": F.mse_loss(codes, rows)}

    def _statistics(self, rows: Tensor, indices: Tensor) -> list[Tensor]:
        return [count_codes(indices, self.codebook_size)] if self.revive else []

    def _learn(self, *totals: Tensor) -> None:
        pass

    def _put(self, codes: Tensor) -> None:
        self.codebook.copy_(codes)
