"""Settings of the stacked VQ-VAE."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from medvq.models.quantize.settings import CodebookSettings, Positive


class SVQVAESettings(CodebookSettings):
    """Stacked two-level VQ-VAEs with a classifier head. The layers are the published ones by default.

    The published codes start at N(0, 1) and are never revived: `init: normal`, `revive: 0`.
    """

    revision: ClassVar[int] = 1

    name: Literal["svqvae"] = "svqvae"
    """The model."""
    levels: Positive = 3
    """Number of stacked VQ-VAEs. The input of each is the joint code of the previous one; its code has a quarter of the
    side of its input."""
    channels: Annotated[int, Field(gt=0, multiple_of=2)] = 128
    """Channels of the hidden layers, an even number."""
    residual_blocks: Annotated[int, Field(ge=0)] = 2
    """Residual blocks in each encoder and decoder."""
    residual_channels: Positive = 32
    """Hidden channels of a residual block."""
    code_dim: Positive = 2
    """D, the length of a code."""
    head: tuple[Positive, ...] | None = None
    """Widths of the hidden layers of the classifier head. By default twice the length of the flattened code, and 64;
    for images of 512×512 pixels these are the published 512 and 64. Without classes there is no head."""
