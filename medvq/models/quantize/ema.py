"""A codebook of exponential moving averages (van den Oord et al. 2017, appendix A.1; SPEC §0)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medvq.config.errors import MedvqError
from medvq.models.draws import Draws
from medvq.models.quantize.base import Quantized, Quantizer, straight_through, to_grid, to_rows
from medvq.models.quantize.kmeans import count_and_sum, own_rows, start_codes
from medvq.models.quantize.nearest import nearest
from medvq.models.ranks import sum_over_ranks_

REVIVED_AT_ONCE = 8
"""At most one in this many codes is revived in one step."""


class EMAQuantizer(Quantizer):
    """Codes follow the mean of the vectors that chose them; the only loss is β‖z − sg e‖².

    With n_k vectors at code k in a step, counts and sums taken over all ranks:
    N_k ← γN_k + (1−γ)n_k; m_k ← γm_k + (1−γ)Σz; e_k = m_k / N̂_k, N̂_k = (N_k+ε)/(n+Kε)·n, n = ΣN_k.
    N_k starts at 1: from 0, a code that no vector chose at first would be thrown far away for ever.
    """

    codebook: Tensor
    """(K, D) float32, the codes."""
    counts: Tensor
    """(K,) float32, N_k."""
    sums: Tensor
    """(K, D) float32, m_k."""
    initted: Tensor
    """() bool: has the codebook been started?"""

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        beta: float = 0.25,
        decay: float = 0.99,
        eps: float = 1e-5,
        init: Literal["kmeans", "normal"] = "kmeans",
        revive: float = 0.02,
        name: str = "codebook",
    ) -> None:
        super().__init__(codebook_size, code_dim, name=name)
        self.beta, self.decay, self.eps, self.revive = beta, decay, eps, revive
        codes = torch.randn(codebook_size, code_dim)
        self.register_buffer("codebook", codes)
        self.register_buffer("counts", torch.ones(codebook_size))
        self.register_buffer("sums", codes.clone())
        self.register_buffer("initted", torch.tensor(init == "normal"))
        self._pending: tuple[Tensor, Tensor] | None = None
        self._seen: list[Tensor] = []

    def quantize(self, z: Tensor, draws: Draws | None) -> Quantized:
        """Quantize z (B, D, H, W).

        Raises:
            ValueError: the codebook must be started from data and there are no draws.
        """
        rows = to_rows(z)
        learning = self._learning()
        if learning and not self.initted:
            self._start(rows.detach(), draws)
        indices = nearest(rows, self.codebook)
        codes = F.embedding(indices, self.codebook)
        if learning:
            self._collect(rows.detach(), indices)
        commitment = F.mse_loss(rows, codes)
        return Quantized(
            z_q=to_grid(straight_through(rows, codes), z.shape),
            indices=indices.view(z.shape[0], *z.shape[2:]),
            losses={"commitment": commitment},
            penalty=self.beta * commitment,
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes (B, D, H, W) of indices (B, H, W)."""
        return F.embedding(indices, self.codebook).permute(0, 3, 1, 2)

    def _start(self, rows: Tensor, draws: Draws | None) -> None:
        if draws is None:
            raise ValueError(f"{self.name}: the first training pass starts the codebook from data and needs draws")
        codes = start_codes(rows, self.codebook_size, draws, f"kmeans/{self.name}")
        self.codebook.copy_(codes)
        self.sums.copy_(codes)
        self.counts.fill_(1)
        self.initted.fill_(True)

    @torch.no_grad()
    def _collect(self, rows: Tensor, indices: Tensor) -> None:
        counts, sums = count_and_sum(rows, indices, self.codebook_size)
        if self._pending is not None:
            counts, sums = counts + self._pending[0], sums + self._pending[1]
        self._pending = counts, sums
        if self.revive:
            self._seen.append(rows)

    @torch.no_grad()
    def update(self, draws: Draws) -> None:
        """One step of the moving averages, then revival of dead codes; nothing if no training pass came before.

        Raises:
            MedvqError: the encoder's outputs were not finite; the codebook is left as it was.
        """
        if self._pending is None:
            return
        parts = [*self._pending]
        if self._seen:
            parts.append(self._candidates(torch.cat(self._seen), draws))
        self._pending, self._seen = None, []
        flat = sum_over_ranks_(torch.cat([part.reshape(-1) for part in parts]))
        if not torch.isfinite(flat).all():
            raise MedvqError(
                f"encoder outputs that are not finite reached the codebook {self.name} at step {draws.step}",
                hint="lower the learning rate, clip gradients, or train in float32",
            )
        totals = torch.split(flat, [part.numel() for part in parts])
        counts, sums, *candidates = (t.view_as(part) for t, part in zip(totals, parts, strict=True))
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        n = self.counts.sum()
        smoothed = (self.counts + self.eps) / (n + self.codebook_size * self.eps) * n
        self.codebook.copy_(self.sums / smoothed[:, None])
        if candidates:
            self._revive(candidates[0], n / self.codebook_size)

    def _candidates(self, seen: Tensor, draws: Draws) -> Tensor:
        """The vectors (R, D) that may replace dead codes, as far as this rank holds them."""
        wanted = -(-self.codebook_size // REVIVED_AT_ONCE)
        positions = draws.positions(wanted, len(seen) * draws.world, f"revive/{self.name}")
        return own_rows(seen, positions, draws)

    def _revive(self, candidates: Tensor, mean_count: Tensor) -> None:
        """Put candidates (R, D) in place of the least used codes, as far as those are dead."""
        least = torch.sort(self.counts, stable=True).indices[: len(candidates)]
        dead = self.counts[least] < self.revive * mean_count
        codes = torch.where(dead[:, None], candidates, self.codebook[least])
        counts = torch.where(dead, mean_count, self.counts[least])
        self.sums[least] = torch.where(dead[:, None], candidates * mean_count, self.sums[least])
        self.codebook[least], self.counts[least] = codes, counts
