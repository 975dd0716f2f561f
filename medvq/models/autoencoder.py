"""Interface of models that encode images and decode them again, with or without codebooks."""

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
"""What each level reconstructs: the image, or the input of that level. For level 0 both are the same."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Codes of a batch of images, one per level."""

    codes: list[Tensor]
    """Per level, (B, C, h, w) or (B, C): the input of the decoder of that level."""
    losses: dict[str, Tensor] = field(default_factory=dict)
    """Losses of the codes by name, such as `commitment/level0` or `kl`: scalars (), unweighted, logged only."""
    penalties: list[Tensor] = field(default_factory=list)
    """Per level, a scalar () that is added to the reconstruction loss: the weighted losses. An empty list adds 0."""
    indices: dict[str, Tensor] = field(default_factory=dict)
    """Per codebook, such as `level0/top`, the chosen codes (B, h, w) int64. Empty for models without codebooks."""

    @property
    def code(self) -> Tensor:
        """Code of the deepest level."""
        return self.codes[-1]

    def penalty(self, level: int) -> Tensor:
        """Return the scalar () that is added to the reconstruction loss of `level`; 0 if there are no penalties."""
        return self.penalties[level] if self.penalties else self.code.new_zeros(())


@dataclass(frozen=True, kw_only=True)
class Reconstructions(Encoded):
    """Codes and what is decoded from them. The loss of level i is MSE(images[i], targets[i]) + penalty(i)."""

    images: list[Tensor]
    """Per level, the reconstruction, (B, C, H, W) with the shape of `targets[i]`."""
    targets: list[Tensor]
    """Per level, the tensor that `images[i]` should equal, detached."""


class Autoencoder(nn.Module, ABC):
    """A model that encodes images and decodes them again.

    A subclass implements `encode` and `decode`, and `head` if it has a classifier head. Models with codebooks derive
    from `VQModel`.
    """

    levels: int = 1
    """Number of levels; larger than 1 for stacked models."""

    @abstractmethod
    def encode(self, x: Tensor, levels: int | None = None, draws: Draws | None = None) -> Encoded:
        """Encode images.

        Args:
            x: images (B, C, H, W), normalised.
            levels: number of levels to encode, counted from the image; all by default.
            draws: random numbers of this training step. None in evaluation, where the code is deterministic.
        """

    @abstractmethod
    def decode(self, code: Tensor, level: int = -1, to: int = 0) -> Tensor:
        """Decode a code.

        Args:
            code: output of the encoder of `level`, (B, C, h, w) or (B, C).
            level: the level of the code; by default the deepest one.
            to: decode to the input of this level; 0 gives images.

        Returns:
            Images (B, C, H, W) if `to` is 0, else codes of level `to` − 1.
        """

    def forward(
        self, x: Tensor, *, levels: int | None = None, draws: Draws | None = None, target: Target = "pixels"
    ) -> Reconstructions:
        """Encode images and decode the code of each level.

        Args:
            x: images (B, C, H, W), normalised.
            levels: number of levels to use, counted from the image; all by default.
            draws: random numbers of this training step. Models that draw random numbers in training, or initialise
                codebooks from data, require them.
            target: what each level reconstructs.
        """
        found = self.encode(x, levels, draws)
        active = range(len(found.codes))
        if target == "pixels":
            images, targets = [self.decode(found.codes[i], i) for i in active], [x.detach() for _ in active]
        else:
            # Detached: otherwise a level could reduce the loss of the next one by shrinking its own code.
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
        """Return the reconstruction (B, C, H, W) of images x (B, C, H, W) from the deepest code."""
        return self.decode(self.encode(x).code)

    def head(self, code: Tensor) -> Tensor:
        """Return class logits (B, classes) for the deepest code.

        Raises:
            UsageError: the model has no classifier head.
        """
        raise UsageError(
            f"a {type(self).__name__} has no classifier head", hint="use a model with a head, such as svqvae"
        )

    @property
    def has_head(self) -> bool:
        """Whether the model has a classifier head."""
        return type(self).head is not Autoencoder.head


class VQModel(Autoencoder):
    """An autoencoder with one or more codebooks."""

    @abstractmethod
    def decode_indices(self, indices: dict[str, Tensor]) -> Tensor:
        """Return images (B, C, H, W) decoded from code indices.

        Args:
            indices: indices (B, h, w) int64 of the codebooks of the deepest level, with the keys of `Encoded.indices`.
        """

    def quantizers(self) -> dict[str, Quantizer]:
        """Return the quantizers by name, in the order of `modules()`."""
        return {m.name: m for m in self.modules() if isinstance(m, Quantizer) and not m.inner}

    def update_codebooks(self, draws: Draws) -> None:
        """Update the codebooks from the training passes since the last call.

        Call it once per optimizer step, on every rank.
        """
        for quantizer in self.quantizers().values():
            quantizer.update(draws)

    def freeze_codebooks(self, frozen: bool = True) -> None:
        """Freeze the codebooks, or unfreeze them. The straight-through gradient is not affected."""
        for quantizer in self.quantizers().values():
            quantizer.freeze(frozen)

    def as_published(self, names: Collection[str]) -> None:
        """Switch on known mistakes of published implementations. Call it before training.

        Args:
            names: keys of the `as_published` of the model's settings.
        """
        for quantizer in self.quantizers().values():
            quantizer.as_published(names)
