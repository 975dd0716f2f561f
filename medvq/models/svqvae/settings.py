"""What a study may say about the stacked VQ-VAE."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from medvq.models.quantize.settings import CodebookSettings, Positive


class SVQVAESettings(CodebookSettings):
    """Stacked two-level VQ-VAEs with a classifier head; the defaults are the published setting.

    Published codes start at N(0, 1) and are never revived: `init: normal`, `revive: 0`.
    """

    revision: ClassVar[int] = 1

    name: Literal["svqvae"] = "svqvae"
    """The model."""
    levels: Positive = 3
    """Stacked VQ-VAEs; each takes the joint code of the one below, at a quarter of its side."""
    channels: Annotated[int, Field(gt=0, multiple_of=2)] = 128
    """Channels of the hidden layers."""
    residual_blocks: Annotated[int, Field(ge=0)] = 2
    """Residual blocks in each encoder and decoder."""
    residual_channels: Positive = 32
    """Channels inside a residual block."""
    code_dim: Positive = 2
    """D, the length of a code."""
    head: tuple[Positive, ...] | None = None
    """Hidden layers of the classifier head, built if the data have classes; by default twice the length of the
    flattened code, then 64, which is the published 512, 64 at 512 pixels."""
