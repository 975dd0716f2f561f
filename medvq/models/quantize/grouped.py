"""Several codes per position: each vector is cut into equal parts that share one codebook."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

from torch import Tensor

from medvq.models.draws import Draws
from medvq.models.quantize.base import Quantized, Quantizer
from medvq.models.quantize.settings import CodebookSettings, GroupedSettings
from medvq.registry import QUANTIZERS


class GroupedQuantizer(Quantizer):
    """(B, G·d, H, W) to G codes of length d at each position.

    Indices are (B, H, W·G): row, then column, then group, which is the raster order of a prior over them.
    """

    Settings = GroupedSettings

    def __init__(self, inner: Quantizer, groups: int) -> None:
        """Quantize each of `groups` parts of a vector by `inner`."""
        super().__init__(inner.codebook_size, inner.code_dim * groups, name=inner.name)
        if groups < 1:
            raise ValueError(f"groups must be positive, not {groups}")
        inner.inner = True
        self.groups, self.codes = groups, inner

    @classmethod
    def from_settings(cls, settings: GroupedSettings, codebooks: CodebookSettings, name: str) -> Self:
        """Make the quantizer that a study describes; see `Quantizer.from_settings`."""
        part = codebooks.model_copy(update={"code_dim": codebooks.code_dim // settings.groups})
        return cls(QUANTIZERS.find(settings.codes).from_settings(None, part, name), settings.groups)

    def quantize(self, z: Tensor, draws: Draws | None) -> Quantized:
        """Quantize z (B, G·d, H, W)."""
        found: Quantized = self.codes(self._apart(z), draws)
        return Quantized(
            z_q=self._together(found.z_q), indices=found.indices, losses=found.losses, penalty=found.penalty
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes (B, G·d, H, W) of indices (B, H, W·G)."""
        return self._together(self.codes.lookup(indices))

    def update(self, draws: Draws) -> None:
        """Learn from the training passes since the last call, together with all ranks."""
        self.codes.update(draws)

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or let) the codebook learn."""
        super().freeze(frozen)
        self.codes.freeze(frozen)

    def table(self) -> Tensor:
        """All codes, (K, d)."""
        return self.codes.table()

    def as_published(self, names: Collection[str]) -> None:
        """Put the mistakes of papers back in that are switched on."""
        self.codes.as_published(names)

    def _apart(self, z: Tensor) -> Tensor:
        """(B, G·d, H, W) as (B, d, H, W·G)."""
        batch, _, height, width = z.shape
        parts = z.reshape(batch, self.groups, -1, height, width)
        return parts.permute(0, 2, 3, 4, 1).reshape(batch, -1, height, width * self.groups)

    def _together(self, z: Tensor) -> Tensor:
        """(B, d, H, W·G) as (B, G·d, H, W)."""
        batch, dim, height, width = z.shape
        parts = z.reshape(batch, dim, height, width // self.groups, self.groups)
        return parts.permute(0, 4, 1, 2, 3).reshape(batch, self.groups * dim, height, -1)
