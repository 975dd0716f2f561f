"""What a model that reconstructs from codes takes and returns, whatever its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from medvq.models.draws import Draws
from medvq.models.quantize.base import Quantizer

Target = Literal["pixels", "inputs"]
"""What each level reconstructs: the image, or its own input (for level 0 they are the same)."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """An image's codes, level by level."""

    codes: list[Tensor]
    """Per level, (B, C, h, w): the joint code, as the decoder of that level takes it."""
    losses: dict[str, Tensor]
    """Unweighted quantizer losses: `commitment/level0`, …, summed over the level's codebooks."""
    penalties: list[Tensor]
    """Per level, what to add to its reconstruction loss."""
    indices: dict[str, Tensor]
    """Per codebook, (B, h, w) int64: `level0/top`, …"""

    @property
    def code(self) -> Tensor:
        """The deepest code."""
        return self.codes[-1]


@dataclass(frozen=True, kw_only=True)
class Reconstructions(Encoded):
    """Codes, and what came back from them. The loss of level i is MSE(images[i], targets[i]) + penalties[i]."""

    images: list[Tensor]
    """Per level, decoded from its code: (B, C, H, W), the shape of `targets[i]`."""
    targets: list[Tensor]
    """Per level, what `images[i]` should be; no gradient flows into it."""


class VQModel(nn.Module, ABC):
    """A model with one or more codebooks."""

    levels: int
    """How many levels it has; 1 unless it is stacked."""

    @abstractmethod
    def encode(self, x: Tensor, levels: int | None = None, draws: Draws | None = None) -> Encoded:
        """The codes of images x (B, C, H, W), of the first `levels` levels."""

    @abstractmethod
    def decode(self, code: Tensor, level: int = -1, to: int = 0) -> Tensor:
        """The input of level `to` (0: the image) from a code (B, C, h, w) of `level`."""

    @abstractmethod
    def decode_indices(self, indices: dict[str, Tensor]) -> Tensor:
        """The image (B, C, H, W) from the indices of the deepest level, named as in `Encoded.indices`."""

    def forward(
        self, x: Tensor, *, levels: int | None = None, draws: Draws | None = None, target: Target = "pixels"
    ) -> Reconstructions:
        """Encode images x (B, C, H, W) and decode them from each of the first `levels` levels.

        `draws` are needed in training until the codebooks have started.
        """
        found = self.encode(x, levels, draws)
        active = range(len(found.codes))
        if target == "pixels":
            images, targets = [self.decode(found.codes[i], i) for i in active], [x.detach() for _ in active]
        else:
            # Detached: else a lower level could lower the loss of the one above by shrinking its own code.
            images = [self.decode(found.codes[i], i, to=i) for i in active]
            targets = [x.detach(), *(code.detach() for code in found.codes[:-1])]
        return Reconstructions(
            codes=found.codes,
            losses=found.losses,
            penalties=found.penalties,
            indices=found.indices,
            images=images,
            targets=targets,
        )

    def quantizers(self) -> dict[str, Quantizer]:
        """The quantizers by name, in the order of `named_modules`."""
        return {m.name: m for m in self.modules() if isinstance(m, Quantizer) and not m.inner}

    def update_codebooks(self, draws: Draws) -> None:
        """Let the codebooks learn from the passes since the last call: once per optimizer step, on all ranks."""
        for quantizer in self.quantizers().values():
            quantizer.update(draws)

    def freeze_codebooks(self, frozen: bool = True) -> None:
        """Stop (or let) the codebooks learn, whatever the mode; the straight-through gradient is unchanged."""
        for quantizer in self.quantizers().values():
            quantizer.freeze(frozen)

    def as_published(self, names: Collection[str]) -> None:
        """Put the mistakes of papers back in that are switched on, before any training."""
        for quantizer in self.quantizers().values():
            quantizer.as_published(names)
