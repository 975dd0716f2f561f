"""What quantizers with a table of codes share: start from data, straight-through, statistics, revival."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from medvq.errors import MedvqError, UsageError
from medvq.models.draws import Draws
from medvq.models.quantize.base import Quantized, Quantizer, gather, straight_through, to_grid, to_rows, vectors_at
from medvq.models.quantize.kernels import nearest
from medvq.models.quantize.kmeans import start_codes
from medvq.models.quantize.settings import CodebookSettings
from medvq.models.ranks import sum_over_ranks_

Init = Literal["kmeans", "normal", "uniform"]
"""Codes start at the k-means of the first training batch, at N(0, 1), or uniform in ±1/K."""

REVIVED_AT_ONCE = 8
"""At most one in this many codes is revived in one step."""


class NonFiniteCodesError(MedvqError):
    """The encoder put out something that is not finite, at `step` (global), for the codebook `name`."""

    def __init__(self, name: str, step: int) -> None:
        super().__init__(
            f"encoder outputs that are not finite reached the codebook {name} at step {step}",
            hint="lower the learning rate, clip gradients, or train in float32",
        )
        self.name, self.step = name, step


class CodebookQuantizer(Quantizer):
    """Each vector is replaced by the nearest of K codes.

    `counts` follows how often each code is chosen in a step, over all ranks: N_k ← γN_k + (1−γ)n_k. It starts at 1:
    from 0, a moving average of a code that no vector chose at first would be thrown far away for ever. A code with
    N_k < revive·ΣN/K is dead; it is replaced by a vector of the batch, the same one on every rank.
    """

    codebook: Tensor
    """(K, d) float32, the codes."""
    counts: Tensor
    """(K,) float32, N_k."""
    initted: Tensor
    """() bool: has the codebook been started?"""

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        beta: float = 0.25,
        decay: float = 0.99,
        init: Init = "kmeans",
        revive: float = 0.02,
        name: str = "codebook",
    ) -> None:
        super().__init__(codebook_size, code_dim, name=name)
        self.beta, self.decay, self.init, self.revive = beta, decay, init, revive
        self.register_buffer("counts", torch.ones(codebook_size))
        self.register_buffer("initted", torch.tensor(init != "kmeans"))
        self.norms_weigh_less = False
        self._pending: list[Tensor] = []
        self._seen: list[Tensor] = []  # (B, d, H, W) each, which backward keeps as well

    @classmethod
    def from_settings(cls, settings: Any, codebooks: CodebookSettings, name: str) -> Self:
        """Make the quantizer that a study describes; see `Quantizer.from_settings`."""
        return cls(
            codebooks.codebook_size,
            codebooks.code_dim,
            beta=codebooks.beta,
            decay=codebooks.decay,
            init=codebooks.init,
            revive=codebooks.revive,
            name=name,
        )

    def quantize(self, z: Tensor, draws: Draws | None) -> Quantized:
        """Quantize z (B, D, H, W).

        Raises:
            ValueError: the codebook must be started from data and there are no draws.
        """
        space = self.project(z)  # (B, d, H, W)
        rows = to_rows(space.detach())  # (B·H·W, d)
        learning = self._learning()
        if learning and not self.initted:
            self._start(rows, draws)
        compared = _weigh_norms_less(rows, self.codebook) if self.norms_weigh_less else (rows, self.codebook)
        indices = nearest(*compared)
        if learning:
            self._collect(space.detach(), rows, indices)
        losses = self._codebook_loss(rows, indices)
        del rows, compared  # what is looked up may take their place in memory
        passed, commitment = straight_through(space, gather(self.codebook.detach(), indices, space))
        losses, penalty = {"commitment": commitment, **losses}, sum(losses.values(), self.beta * commitment)
        if learning and self.eager and draws is not None:
            self.update(draws)
        return Quantized(
            z_q=self.unproject(passed),
            indices=indices.view(z.shape[0], *z.shape[2:]),
            losses=losses,
            penalty=penalty,
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes (B, D, H, W) of indices (B, H, W)."""
        rows = F.embedding(indices.reshape(-1), self.codebook)
        return self.unproject(to_grid(rows, indices.shape).contiguous())

    def table(self) -> Tensor:
        """All codes, (K, d)."""
        return self.codebook

    def as_published(self, names: Collection[str]) -> None:
        """Put the mistakes of papers back in that are switched on.

        Raises:
            UsageError: the codebook starts from data, where counts cannot start cold.
        """
        self.eager = "codebook_update_per_encode" in names
        self.norms_weigh_less = "norms_weigh_less" in names
        if "ema_cold_start" in names:
            if self.init == "kmeans":
                raise UsageError("ema_cold_start is of codes that start at random", hint="set model.init to normal")
            self.counts.zero_()

    def project(self, z: Tensor) -> Tensor:
        """The input (B, D, H, W) as it is compared with codes, (B, d, H, W)."""
        return z

    def unproject(self, codes: Tensor) -> Tensor:
        """Codes (B, d, H, W) as the decoder takes them, (B, D, H, W)."""
        return codes

    @torch.no_grad()
    def update(self, draws: Draws) -> None:
        """Learn from the training passes since the last call, then revive dead codes; nothing if there were none.

        Raises:
            NonFiniteCodesError: the encoder's outputs were not finite; the codebook is left as it was.
        """
        if not self._pending:
            return
        parts = [*self._pending]
        if self.revive:
            parts.append(self._candidates(draws))
        self._pending, self._seen = [], []
        flat = sum_over_ranks_(torch.cat([part.reshape(-1) for part in parts]))
        if not torch.isfinite(flat).all():
            raise NonFiniteCodesError(self.name, draws.step)
        totals = torch.split(flat, [part.numel() for part in parts])
        counts, *others = (t.view_as(part) for t, part in zip(totals, parts, strict=True))
        self.counts.lerp_(counts, 1 - self.decay)
        candidates = others.pop() if self.revive else None
        self._learn(*others)
        if candidates is not None:
            self._revive(candidates, self.counts.sum() / self.codebook_size)

    def forget(self) -> None:
        """Drop the statistics of training passes since the last update."""
        self._pending, self._seen = [], []

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or let) the codebook learn, by averages and by gradient."""
        super().freeze(frozen)
        # With no gradient at all, not even weight decay moves it.
        self.codebook.grad = None

    def _codebook_loss(self, rows: Tensor, indices: Tensor) -> dict[str, Tensor]:
        """What moves the codes by gradient, by name, of detached vectors (N, d) and the indices (N,) of their codes."""
        return {}

    @abstractmethod
    def _statistics(self, rows: Tensor, indices: Tensor) -> list[Tensor]:
        """What to sum over passes and ranks, the counts (K,) first; nothing if the codebook does not use any."""

    @abstractmethod
    def _learn(self, *totals: Tensor) -> None:
        """Update the codebook from the summed statistics after the counts; `self.counts` is up to date."""

    @abstractmethod
    def _put(self, codes: Tensor) -> None:
        """Make `codes` (K, d) the codebook, and what belongs to it agree with them and `self.counts`."""

    def _drawn(self, dim: int) -> Tensor:
        """A codebook (K, d) to begin with."""
        if self.init == "uniform":
            return torch.empty(self.codebook_size, dim).uniform_(-1 / self.codebook_size, 1 / self.codebook_size)
        return torch.randn(self.codebook_size, dim)

    @torch.no_grad()
    def _start(self, rows: Tensor, draws: Draws | None) -> None:
        if draws is None:
            raise ValueError(f"{self.name}: the first training pass starts the codebook from data and needs draws")
        self.counts.fill_(1)
        self._put(start_codes(rows, self.codebook_size, draws, f"kmeans/{self.name}"))
        self.initted.fill_(True)

    @torch.no_grad()
    def _collect(self, space: Tensor, rows: Tensor, indices: Tensor) -> None:
        """Keep what an update needs of vectors (B, d, H, W), the same as rows (N, d), and the indices (N,) of codes."""
        found = self._statistics(rows, indices)
        if self._pending:
            found = [old + new for old, new in zip(self._pending, found, strict=True)]
        self._pending = found
        if found and self.revive:
            self._seen.append(space)

    def _candidates(self, draws: Draws) -> Tensor:
        """The vectors (R, d) that may replace dead codes, as far as this rank holds them, and zeros for the others."""
        wanted, held = -(-self.codebook_size // REVIVED_AT_ONCE), [z.numel() // z.shape[1] for z in self._seen]
        positions = draws.positions(wanted, sum(held) * draws.world, f"revive/{self.name}")
        local = positions.to(self.codebook.device) - draws.rank * sum(held)
        found = self.codebook.new_zeros(wanted, self.codebook.shape[1])
        for z, count in zip(self._seen, held, strict=True):
            mine = (local >= 0) & (local < count)
            found = torch.where(mine[:, None], vectors_at(z, local.clamp(0, count - 1)), found)
            local = local - count
        return found

    def _revive(self, candidates: Tensor, mean_count: Tensor) -> None:
        """Put candidates (R, d) in place of the least used codes, as far as those are dead, with the mean count."""
        least = torch.sort(self.counts, stable=True).indices[: len(candidates)]
        dead = self.counts[least] < self.revive * mean_count
        self._replace(least[dead], candidates[dead], mean_count)

    def _replace(self, which: Tensor, codes: Tensor, count: Tensor) -> None:
        """Put codes (R, d) at the places `which` (R,), each with the same count."""
        self.codebook[which] = codes
        self.counts[which] = count


@torch.no_grad()
def _weigh_norms_less(rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (N, d + 1) and codes (K, d + 1) whose nearest are the minima of 0.3(‖z‖² + ‖e‖²) − 2z·e, as published.

    One more dimension, where z is 0, brings long codes nearer than others.
    """
    norms = codes.square().sum(1)
    return F.pad(rows, (0, 1)), torch.cat([codes, ((norms.max() - norms) * 0.7).sqrt()[:, None]], dim=1)
