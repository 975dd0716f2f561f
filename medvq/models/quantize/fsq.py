"""Finite scalar quantization: a fixed grid instead of a codebook (Mentzer et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Self

import torch
from torch import Tensor, nn

from medvq.models.draws import Draws
from medvq.models.quantize.base import Quantized, Quantizer, straight_through
from medvq.models.quantize.settings import CodebookSettings, FSQSettings


class FSQuantizer(Quantizer):
    """Each of d numbers is bounded and rounded to one of its L levels; a code is their combination, K = ∏L.

    Levels lie evenly in [−1, 1], symmetric about 0, for even L too (where 0 is then between two levels). The index is
    their mixed-radix number, the first dimension running fastest. Nothing is learnt and nothing can die.
    """

    Settings = FSQSettings
    reach: Tensor
    """(d, 1, 1) float32, (L − 1) / 2."""
    basis: Tensor
    """(d, 1, 1) int64, the step of each dimension in the index."""

    def __init__(self, levels: Sequence[int], code_dim: int, *, name: str = "codebook") -> None:
        """`levels` are the L of each dimension; where there are not `code_dim` of them, a projection leads there.

        Raises:
            ValueError: a dimension has less than two levels.
        """
        super().__init__(prod(levels), code_dim, name=name)
        if not levels or min(levels) < 2:
            raise ValueError(f"every dimension needs at least two levels, not {list(levels)}")
        self.levels = tuple(levels)
        self.register_buffer("reach", (torch.tensor(levels).view(-1, 1, 1) - 1) / 2, persistent=False)
        steps = [prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("basis", torch.tensor(steps).view(-1, 1, 1), persistent=False)
        same = len(levels) == code_dim
        self.project_in = nn.Identity() if same else nn.Conv2d(code_dim, len(levels), 1)
        self.project_out = nn.Identity() if same else nn.Conv2d(len(levels), code_dim, 1)

    @classmethod
    def from_settings(cls, settings: FSQSettings, codebooks: CodebookSettings, name: str) -> Self:
        """Make the quantizer that a study describes; see `Quantizer.from_settings`."""
        return cls(settings.levels, codebooks.code_dim, name=name)

    def quantize(self, z: Tensor, draws: Draws | None) -> Quantized:
        """Quantize z (B, D, H, W)."""
        bounded = torch.tanh(self.project_in(z))  # (B, d, H, W)
        digits = ((bounded + 1) * self.reach).round()
        passed, _ = straight_through(bounded, digits / self.reach - 1)
        return Quantized(
            z_q=self.project_out(passed),
            indices=(digits.long() * self.basis).sum(dim=1),
            losses={},
            penalty=bounded.new_zeros(()),
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes (B, D, H, W) of indices (B, H, W)."""
        radix = torch.tensor(self.levels, device=indices.device).view(-1, 1, 1)
        digits = indices[:, None] // self.basis % radix
        codes: Tensor = self.project_out(digits / self.reach - 1)
        return codes

    def table(self) -> Tensor:
        """All codes, (K, d): every point of the grid."""
        radix = torch.tensor(self.levels, device=self.reach.device)
        every = torch.arange(self.codebook_size, device=self.reach.device)[:, None]
        return every // self.basis.flatten() % radix / self.reach.flatten() - 1
