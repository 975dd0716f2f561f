"""Quantizer with several codes per position: each vector is split into equal parts that share one codebook."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

from torch import Tensor

from medvq.models.draws import Draws
from medvq.models.quantize.base import Quantized, Quantizer
from medvq.models.quantize.settings import CodebookSettings, GroupedSettings
from medvq.registry import QUANTIZERS


class GroupedQuantizer(Quantizer):
    """Replaces the vector at each position of (B, G·d, H, W) by G codes of length d.

    Indices are (B, H, W·G), ordered by row, column and group: the raster order for an autoregressive prior. The
    published VQ-VAE for skin lesions has G = 4 and d = 64 (jobs/PUBLISHED.md, skin-vqvae-pixelcnn).
    """

    Settings = GroupedSettings

    def __init__(self, inner: Quantizer, groups: int) -> None:
        """Create the quantizer.

        Args:
            inner: quantizer of the parts, with `code_dim` d.
            groups: G, the number of parts of a vector.

        Raises:
            ValueError: `groups` is not positive.
        """
        super().__init__(inner.codebook_size, inner.code_dim * groups, name=inner.name)
        if groups < 1:
            raise ValueError(f"groups must be positive, not {groups}")
        inner.inner = True
        self.groups, self.codes = groups, inner

    @classmethod
    def from_settings(cls, settings: GroupedSettings, codebooks: CodebookSettings, name: str) -> Self:
        """Create the quantizer from the settings of a study; see `Quantizer.from_settings`."""
        part = codebooks.model_copy(update={"code_dim": codebooks.code_dim // settings.groups})
        return cls(QUANTIZERS.find(settings.codes).from_settings(None, part, name), settings.groups)

    def quantize(self, z: Tensor, draws: Draws | None) -> Quantized:
        """Quantize z (B, G·d, H, W) float32."""
        found: Quantized = self.codes(self._split_groups(z), draws)
        return Quantized(
            z_q=self._merge_groups(found.z_q), indices=found.indices, losses=found.losses, penalty=found.penalty
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the codes (B, G·d, H, W) float32 of indices (B, H, W·G)."""
        return self._merge_groups(self.codes.lookup(indices))

    def update(self, draws: Draws) -> None:
        """Update the codebook from the training passes of all ranks since the last call."""
        self.codes.update(draws)

    def freeze(self, frozen: bool = True) -> None:
        """Freeze the codebook, or unfreeze it."""
        super().freeze(frozen)
        self.codes.freeze(frozen)

    def table(self) -> Tensor:
        """Return all codes, (K, d)."""
        return self.codes.table()

    def as_published(self, names: Collection[str]) -> None:
        """Switch on known mistakes of published implementations, by name."""
        self.codes.as_published(names)

    def _split_groups(self, z: Tensor) -> Tensor:
        """Return z (B, G·d, H, W) as (B, d, H, W·G)."""
        batch, _, height, width = z.shape
        parts = z.reshape(batch, self.groups, -1, height, width)
        return parts.permute(0, 2, 3, 4, 1).reshape(batch, -1, height, width * self.groups)

    def _merge_groups(self, z: Tensor) -> Tensor:
        """Return z (B, d, H, W·G) as (B, G·d, H, W)."""
        batch, dim, height, width = z.shape
        parts = z.reshape(batch, dim, height, width // self.groups, self.groups)
        return parts.permute(0, 4, 1, 2, 3).reshape(batch, self.groups * dim, height, -1)
