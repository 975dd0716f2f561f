"""Finite scalar quantization (FSQ, Mentzer et al. 2023): a fixed grid instead of a learnt codebook."""

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
    """Bounds each of d numbers by tanh and rounds it to one of L_i levels; there are K = ∏L_i codes.

    The levels of a dimension are evenly spaced in [−1, 1] and symmetric about 0. The paper shifts even L by half a
    level to make 0 a level; here 0 then lies between two levels. The index of a code is its mixed-radix number, with
    the first dimension varying fastest. There are no codebook parameters, no losses and no dead codes.
    """

    Settings = FSQSettings
    reach: Tensor
    """(d, 1, 1) float32: (L_i − 1) / 2."""
    basis: Tensor
    """(d, 1, 1) int64: the stride of each dimension in the index."""

    def __init__(self, levels: Sequence[int], code_dim: int, *, name: str = "codebook") -> None:
        """Create the quantizer.

        Args:
            levels: L_i, the number of levels of each of the d dimensions.
            code_dim: D, the number of channels of the input. If it is not d, 1×1 convolutions map D to d and back.
            name: name of the quantizer.

        Raises:
            ValueError: a dimension has fewer than two levels.
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
        """Create the quantizer from the settings of a study; see `Quantizer.from_settings`."""
        return cls(settings.levels, codebooks.code_dim, name=name)

    def quantize(self, z: Tensor, draws: Draws | None) -> Quantized:
        """Quantize z (B, D, H, W) float32; `draws` are not used."""
        bounded = torch.tanh(self.project_in(z))  # (B, d, H, W)
        digits = ((bounded + 1) * self.reach).round()
        out, _ = straight_through(bounded, digits / self.reach - 1)
        return Quantized(
            z_q=self.project_out(out),
            indices=(digits.long() * self.basis).sum(dim=1),
            losses={},
            penalty=bounded.new_zeros(()),
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the codes (B, D, H, W) float32 of indices (B, H, W)."""
        radix = torch.tensor(self.levels, device=indices.device).view(-1, 1, 1)
        digits = indices[:, None] // self.basis % radix
        codes: Tensor = self.project_out(digits / self.reach - 1)
        return codes

    def table(self) -> Tensor:
        """Return all codes, (K, d): the points of the grid."""
        radix = torch.tensor(self.levels, device=self.reach.device)
        indices = torch.arange(self.codebook_size, device=self.reach.device)[:, None]
        return indices // self.basis.flatten() % radix / self.reach.flatten() - 1
