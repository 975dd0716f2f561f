"""The interface of models that encode images and decode them again, with or without codebooks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from medvq.errors import UsageError
from medvq.models.draws import Draws
from medvq.models.quantize.base import Quantizer

Target = Literal["pixels", "inputs"]
"""What each level reconstructs: the image, or its own input (for level 0 they are the same)."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The codes of a batch of images, level by level."""

    codes: list[Tensor]
    """Per level, (B, C, h, w) or (B, C): the code that the decoder of that level takes."""
    losses: dict[str, Tensor] = field(default_factory=dict)
    """Unweighted losses of the code by name, means over elements: `commitment/level0`, `kl`, …; for the curves."""
    penalties: list[Tensor] = field(default_factory=list)
    """Per level, the weighted sum of its losses, (): what is added to the reconstruction loss. Empty adds nothing."""
    indices: dict[str, Tensor] = field(default_factory=dict)
    """Per codebook, (B, h, w) int64: `level0/top`, …; empty without codebooks."""

    @property
    def code(self) -> Tensor:
        """The deepest code."""
        return self.codes[-1]

    def penalty(self, level: int) -> Tensor:
        """Return what is added to the reconstruction loss of `level`, ()."""
        return self.penalties[level] if self.penalties else self.code.new_zeros(())


@dataclass(frozen=True, kw_only=True)
class Reconstructions(Encoded):
    """Codes and the images decoded from them. The loss of level i is MSE(images[i], targets[i]) + penalty(i)."""

    images: list[Tensor]
    """Per level, decoded from its code: (B, C, H, W), the shape of `targets[i]`."""
    targets: list[Tensor]
    """Per level, what `images[i]` should be; no gradient flows into it."""


class Autoencoder(nn.Module, ABC):
    """A model that encodes images and decodes them again.

    A subclass implements `encode` and `decode`; one that classifies as well implements `head`. Models with codebooks
    derive from `VQModel`.
    """

    levels: int = 1
    """Number of levels; 1 unless the model is stacked."""

    @abstractmethod
    def encode(self, x: Tensor, levels: int | None = None, draws: Draws | None = None) -> Encoded:
        """Encode images.

        Args:
            x: (B, C, H, W), normalised.
            levels: encode only the first `levels` levels; all by default.
            draws: random numbers of this training step; None in evaluation, where the code is deterministic.
        """

    @abstractmethod
    def decode(self, code: Tensor, level: int = -1, to: int = 0) -> Tensor:
        """Decode a code of `level` to the input of level `to`; `to` 0 gives images (B, C, H, W)."""

    def forward(
        self, x: Tensor, *, levels: int | None = None, draws: Draws | None = None, target: Target = "pixels"
    ) -> Reconstructions:
        """Encode images x (B, C, H, W) and decode them from each of the first `levels` levels.

        `draws` are required in training by models that draw random numbers or start codebooks from data.
        """
        found = self.encode(x, levels, draws)
        active = range(len(found.codes))
        if target == "pixels":
            images, targets = [self.decode(found.codes[i], i) for i in active], [x.detach() for _ in active]
        else:
            # Detached: otherwise a lower level could reduce the loss of the one above by shrinking its own code.
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

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return images (B, C, H, W) decoded from the deepest code of images x (B, C, H, W)."""
        return self.decode(self.encode(x).code)

    def head(self, code: Tensor) -> Tensor:
        """Return class logits (B, classes) of the deepest code.

        Raises:
            UsageError: the model has no classifier head.
        """
        raise UsageError(f"a {type(self).__name__} has no classifier head", hint="use the model svqvae")

    @property
    def has_head(self) -> bool:
        """Whether the model has a classifier head."""
        return type(self).head is not Autoencoder.head


class VQModel(Autoencoder):
    """An autoencoder with one or more codebooks."""

    @abstractmethod
    def decode_indices(self, indices: dict[str, Tensor]) -> Tensor:
        """Decode images (B, C, H, W) from the indices of the deepest level, named as in `Encoded.indices`."""

    def quantizers(self) -> dict[str, Quantizer]:
        """Return the quantizers by name, in the order of `named_modules`."""
        return {m.name: m for m in self.modules() if isinstance(m, Quantizer) and not m.inner}

    def update_codebooks(self, draws: Draws) -> None:
        """Update the codebooks from the forward passes since the last call: once per optimizer step, on all ranks."""
        for quantizer in self.quantizers().values():
            quantizer.update(draws)

    def freeze_codebooks(self, frozen: bool = True) -> None:
        """Stop (or let) the codebooks learn, in any mode; the straight-through gradient is unchanged."""
        for quantizer in self.quantizers().values():
            quantizer.freeze(frozen)

    def as_published(self, names: Collection[str]) -> None:
        """Switch on mistakes of papers by name, before any training."""
        for quantizer in self.quantizers().values():
            quantizer.as_published(names)
