"""Quantizer whose codes are exponential moving averages (VQ-VAE, van den Oord et al. 2017, appendix A.1)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from medvq.config.settings import QuantizerSettings
from medvq.models.quantize.codebook import CodebookQuantizer, Init
from medvq.models.quantize.kmeans import count_and_sum
from medvq.models.quantize.settings import EMASettings


class EMAQuantizer(CodebookQuantizer):
    """Codes are moving averages of the vectors assigned to them; the only loss is β · mean (z − sg e)².

    Let n_k be the number of vectors assigned to code k in a step and Σz their sum, both over all ranks. Then
    N_k ← γN_k + (1−γ)n_k, m_k ← γm_k + (1−γ)Σz, and e_k = m_k / N̂_k. N̂_k is N_k with Laplace smoothing, as in
    the authors' code: N̂_k = (N_k + ε) / (n + Kε) · n with n = ΣN_k.
    """

    Settings: ClassVar[type[QuantizerSettings]] = EMASettings
    sums: Tensor
    """(K, d) float32: m_k."""

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
        """Create the quantizer.

        Args:
            codebook_size: K, the number of codes.
            code_dim: D, the number of channels of the input.
            beta: β, the weight of the commitment loss.
            decay: γ, the decay of the moving averages, in [0, 1).
            eps: ε of the Laplace smoothing.
            init: initial codes.
            revive: a code used less than this share of the mean is dead; 0 revives none.
            name: name of the codebook; it keys the random draws.
            dim: d, the length of the codes; `code_dim` by default.
        """
        super().__init__(codebook_size, code_dim, beta=beta, decay=decay, init=init, revive=revive, name=name)
        self.eps = eps
        codes = self._random_codes(dim or code_dim)
        self.register_buffer("codebook", codes)
        self.register_buffer("sums", codes.clone())

    def _statistics(self, rows: Tensor, indices: Tensor) -> list[Tensor]:
        return [*count_and_sum(rows, indices, self.codebook_size)]

    def _update_codes(self, *totals: Tensor) -> None:
        (sums,) = totals
        # lerp_ and not add_(sums, alpha=1 − γ): Inductor on CPU has ignored the alpha of such an update.
        self.sums.lerp_(sums, 1 - self.decay)
        n = self.counts.sum()
        smoothed = (self.counts + self.eps) / (n + self.codebook_size * self.eps) * n
        self.codebook.copy_(self.sums / smoothed[:, None])

    def _set_codes(self, codes: Tensor) -> None:
        self.codebook.copy_(codes)
        self.sums.copy_(self.codebook * self.counts[:, None])

    def _replace_codes(self, which: Tensor, codes: Tensor, count: Tensor) -> None:
        super()._replace_codes(which, codes, count)
        self.sums[which] = codes * count
