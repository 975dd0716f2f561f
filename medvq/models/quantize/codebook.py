"""Base class of quantizers with a codebook: initialisation from data, usage statistics, revival of dead codes."""

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
from medvq.models.quantize.kernels import nearest_codes
from medvq.models.quantize.kmeans import start_codes
from medvq.models.quantize.settings import CodebookSettings
from medvq.models.ranks import sum_over_ranks_

Init = Literal["kmeans", "normal", "uniform"]
"""Initial codes: k-means of the first training batch, N(0, 1), or uniform in ±1/K."""

REVIVED_PER_STEP = 8
"""At most K / 8 codes are revived in one step."""


class NonFiniteCodesError(MedvqError):
    """Encoder outputs that are not finite reached the codebook `name` at the global step `step`."""

    def __init__(self, name: str, step: int) -> None:
        super().__init__(
            f"encoder outputs that are not finite reached the codebook {name} at step {step}",
            hint="lower the learning rate, clip gradients, or train in float32",
        )
        self.name, self.step = name, step


class CodebookQuantizer(Quantizer):
    """Replaces each vector by the nearest of K codes (van den Oord et al. 2017, eq. 1 and 2).

    `counts` is a moving average of how often each code is chosen in a step, over all ranks: N_k ← γN_k + (1−γ)n_k. It
    is initialised with 1: with 0, an EMA code that no vector has chosen yet would be divided by almost 0. A code with
    N_k < revive · ΣN/K is dead and is replaced by an encoder output of the batch, the same one on every rank.
    """

    codebook: Tensor
    """(K, d) float32: the codes."""
    counts: Tensor
    """(K,) float32: N_k."""
    initted: Tensor
    """() bool: whether the codebook has been initialised."""

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
        """Create a quantizer without codes; a subclass registers `codebook`.

        Args:
            codebook_size: K, the number of codes.
            code_dim: D, the number of channels of the input.
            beta: weight of the commitment loss.
            decay: γ of the moving averages, in [0, 1).
            init: initial codes.
            revive: a code used less than this share of the mean is dead; 0 revives none.
            name: name of the codebook; it keys the random draws.
        """
        super().__init__(codebook_size, code_dim, name=name)
        self.beta, self.decay, self.init, self.revive = beta, decay, init, revive
        self.register_buffer("counts", torch.ones(codebook_size))
        self.register_buffer("initted", torch.tensor(init != "kmeans"))
        self.norms_weigh_less = False
        self._pending: list[Tensor] = []
        self._pending_inputs: list[Tensor] = []  # (B, d, H, W) each; backward keeps these tensors anyway

    @classmethod
    def from_settings(cls, settings: Any, codebooks: CodebookSettings, name: str) -> Self:
        """Create the quantizer from the settings of a study; see `Quantizer.from_settings`."""
        return cls(codebooks.codebook_size, codebooks.code_dim, **cls.options(settings, codebooks), name=name)

    @classmethod
    def options(cls, settings: Any, codebooks: CodebookSettings) -> dict[str, Any]:
        """Return the keyword arguments that the settings of a study determine, besides the name."""
        return {
            "beta": codebooks.beta,
            "decay": codebooks.decay,
            "init": codebooks.init,
            "revive": codebooks.revive,
        }

    def quantize(self, z: Tensor, draws: Draws | None) -> Quantized:
        """Quantize z (B, D, H, W) float32.

        Raises:
            ValueError: the codebook must be initialised from data, and `draws` is None.
        """
        space = self.project(z)  # (B, d, H, W)
        rows = to_rows(space.detach())  # (B·H·W, d)
        learning = self._learning()
        if learning and not self.initted:
            self._init_from_data(rows, draws)
        compared = _weigh_norms_less(rows, self.codebook) if self.norms_weigh_less else (rows, self.codebook)
        indices = nearest_codes(*compared)
        if learning:
            self._accumulate(space.detach(), rows, indices)
        losses = self._codebook_loss(rows, indices)
        del rows, compared  # frees memory for the codes
        out, commitment = straight_through(space, gather(self.codebook.detach(), indices, space))
        losses, penalty = {"commitment": commitment, **losses}, sum(losses.values(), self.beta * commitment)
        if learning and self.eager and draws is not None:
            self.update(draws)
        return Quantized(
            z_q=self.unproject(out),
            indices=indices.view(z.shape[0], *z.shape[2:]),
            losses=losses,
            penalty=penalty,
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the codes (B, D, H, W) float32 of indices (B, H, W)."""
        rows = F.embedding(indices.reshape(-1), self.codebook)
        return self.unproject(to_grid(rows, indices.shape).contiguous())

    def table(self) -> Tensor:
        """Return all codes, (K, d)."""
        return self.codebook

    def as_published(self, names: Collection[str]) -> None:
        """Switch on known mistakes of published implementations, by name.

        Raises:
            UsageError: `ema_cold_start` is among them and the codebook is initialised from data.
        """
        self.eager = "codebook_update_per_encode" in names
        self.norms_weigh_less = "norms_weigh_less" in names
        if "ema_cold_start" in names:
            if self.init == "kmeans":
                raise UsageError("ema_cold_start requires random initial codes", hint="set model.init to normal")
            self.counts.zero_()

    def project(self, z: Tensor) -> Tensor:
        """Map the input (B, D, H, W) to the space of the codes, (B, d, H, W)."""
        return z

    def unproject(self, codes: Tensor) -> Tensor:
        """Map codes (B, d, H, W) to the space of the decoder, (B, D, H, W)."""
        return codes

    @torch.no_grad()
    def update(self, draws: Draws) -> None:
        """Update the codebook from the training passes of all ranks since the last call, then revive dead codes.

        Without such passes, do nothing.

        Raises:
            NonFiniteCodesError: encoder outputs were not finite; the codebook is unchanged.
        """
        if not self._pending:
            return
        parts = [*self._pending]
        if self.revive:
            parts.append(self._revival_candidates(draws))
        self._pending, self._pending_inputs = [], []
        flat = sum_over_ranks_(torch.cat([part.reshape(-1) for part in parts]))
        if not torch.isfinite(flat).all():
            raise NonFiniteCodesError(self.name, draws.step)
        totals = torch.split(flat, [part.numel() for part in parts])
        counts, *others = (t.view_as(part) for t, part in zip(totals, parts, strict=True))
        self.counts.lerp_(counts, 1 - self.decay)
        candidates = others.pop() if self.revive else None
        self._update_codes(*others)
        if candidates is not None:
            self._revive(candidates, self.counts.sum() / self.codebook_size)

    def forget(self) -> None:
        """Discard the statistics of training passes since the last update."""
        self._pending, self._pending_inputs = [], []

    def freeze(self, frozen: bool = True) -> None:
        """Freeze the codebook, or unfreeze it, for updates by moving averages and by gradient."""
        super().freeze(frozen)
        # Optimizers skip parameters whose gradient is None, including their weight decay.
        self.codebook.grad = None

    def _codebook_loss(self, rows: Tensor, indices: Tensor) -> dict[str, Tensor]:
        """Return the losses that train the codes by gradient, for detached vectors (N, d) and their indices (N,)."""
        return {}

    @abstractmethod
    def _statistics(self, rows: Tensor, indices: Tensor) -> list[Tensor]:
        """Return the tensors to sum over passes and ranks, the counts (K,) first; empty if no update is needed."""

    @abstractmethod
    def _update_codes(self, *totals: Tensor) -> None:
        """Update the codes from the summed statistics without the counts; `self.counts` is already updated."""

    @abstractmethod
    def _set_codes(self, codes: Tensor) -> None:
        """Set all codes (K, d), and all state that depends on them and on `self.counts`."""

    def _random_codes(self, dim: int) -> Tensor:
        """Return random codes (K, d), with d = `dim`; k-means replaces them later if `init` is `kmeans`."""
        if self.init == "uniform":
            return torch.empty(self.codebook_size, dim).uniform_(-1 / self.codebook_size, 1 / self.codebook_size)
        return torch.randn(self.codebook_size, dim)

    @torch.no_grad()
    def _init_from_data(self, rows: Tensor, draws: Draws | None) -> None:
        """Set the codes to the k-means of the vectors (N, d) of all ranks."""
        if draws is None:
            raise ValueError(f"{self.name}: the first training pass initialises the codebook from data and needs draws")
        self.counts.fill_(1)
        self._set_codes(start_codes(rows, self.codebook_size, draws, f"kmeans/{self.name}"))
        self.initted.fill_(True)

    @torch.no_grad()
    def _accumulate(self, space: Tensor, rows: Tensor, indices: Tensor) -> None:
        """Add the statistics of one training pass to the pending ones.

        Args:
            space: vectors (B, d, H, W), detached.
            rows: the same vectors as (N, d).
            indices: their codes (N,).
        """
        found = self._statistics(rows, indices)
        if self._pending:
            found = [old + new for old, new in zip(self._pending, found, strict=True)]
        self._pending = found
        if found and self.revive:
            self._pending_inputs.append(space)

    def _revival_candidates(self, draws: Draws) -> Tensor:
        """Return randomly chosen encoder outputs (R, d) of the global batch, with zeros for those of other ranks.

        The sum over ranks holds all of them.
        """
        wanted = -(-self.codebook_size // REVIVED_PER_STEP)
        held = [z.numel() // z.shape[1] for z in self._pending_inputs]
        positions = draws.positions(wanted, sum(held) * draws.world, f"revive/{self.name}")
        local = positions.to(self.codebook.device) - draws.rank * sum(held)
        found = self.codebook.new_zeros(wanted, self.codebook.shape[1])
        for z, count in zip(self._pending_inputs, held, strict=True):
            mine = (local >= 0) & (local < count)
            found = torch.where(mine[:, None], vectors_at(z, local.clamp(0, count - 1)), found)
            local = local - count
        return found

    def _revive(self, candidates: Tensor, mean_count: Tensor) -> None:
        """Replace dead codes, the least used first, by candidates (R, d), and set their counts to `mean_count`."""
        least = torch.sort(self.counts, stable=True).indices[: len(candidates)]
        dead = self.counts[least] < self.revive * mean_count
        self._replace_codes(least[dead], candidates[dead], mean_count)

    def _replace_codes(self, which: Tensor, codes: Tensor, count: Tensor) -> None:
        """Set the codes at the indices `which` (R,) to `codes` (R, d), and their counts to `count` ()."""
        self.codebook[which] = codes
        self.counts[which] = count


@torch.no_grad()
def _weigh_norms_less(rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Extend vectors and codes by a dimension such that a nearest-code search minimises 0.3(‖z‖² + ‖e‖²) − 2z·e.

    This is the distance of a published implementation, a mistake (jobs/PUBLISHED.md, brain-vqvae). The extra dimension
    is 0 for vectors and √(0.7(max‖e‖² − ‖e‖²)) for codes, so that long codes become nearer than short ones.

    Args:
        rows: vectors (N, d).
        codes: (K, d).

    Returns:
        Vectors (N, d + 1) and codes (K, d + 1).
    """
    norms = codes.square().sum(1)
    return F.pad(rows, (0, 1)), torch.cat([codes, ((norms.max() - norms) * 0.7).sqrt()[:, None]], dim=1)
