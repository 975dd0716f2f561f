"""A codebook of exponential moving averages (van den Oord et al. 2017, appendix A.1)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from medvq.config.settings import QuantizerSettings
from medvq.models.quantize.codebook import CodebookQuantizer, Init
from medvq.models.quantize.kmeans import count_and_sum
from medvq.models.quantize.settings import EMASettings


class EMAQuantizer(CodebookQuantizer):
    """Codes follow the mean of the vectors that chose them; the only loss is β‖z − sg e‖².

    With n_k vectors at code k in a step, counts and sums taken over all ranks:
    N_k ← γN_k + (1−γ)n_k; m_k ← γm_k + (1−γ)Σz; e_k = m_k / N̂_k, N̂_k = (N_k+ε)/(n+Kε)·n, n = ΣN_k.
    """

    Settings: ClassVar[type[QuantizerSettings]] = EMASettings
    sums: Tensor
    """(K, d) float32, m_k."""

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        beta: float = 0.25,
        decay: float = 0.99,
        eps: float = 1e-5,
        init: Init = "kmeans",
        revive: float = 0.02,
        name: str = "codebook",
        dim: int | None = None,
    ) -> None:
        """`dim` is d, the length of the codes in the codebook where it is not `code_dim`."""
        super().__init__(codebook_size, code_dim, beta=beta, decay=decay, init=init, revive=revive, name=name)
        self.eps = eps
        codes = self._drawn(dim or code_dim)
        self.register_buffer("codebook", codes)
        self.register_buffer("sums", codes.clone())

    def _statistics(self, rows: Tensor, indices: Tensor) -> list[Tensor]:
        return [*count_and_sum(rows, indices, self.codebook_size)]

    def _learn(self, *totals: Tensor) -> None:
        (sums,) = totals
        # Not add_(sums, alpha=1 − γ): Inductor has dropped the alpha of such an update on CPU.
        self.sums.lerp_(sums, 1 - self.decay)
        n = self.counts.sum()
        smoothed = (self.counts + self.eps) / (n + self.codebook_size * self.eps) * n
        self.codebook.copy_(self.sums / smoothed[:, None])

    def _put(self, codes: Tensor) -> None:
        self.codebook.copy_(codes)
        self.sums.copy_(self.codebook * self.counts[:, None])

    def _replace(self, which: Tensor, codes: Tensor, count: Tensor) -> None:
        super()._replace(which, codes, count)
        self.sums[which] = codes * count
