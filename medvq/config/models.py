"""What a study may say about a model, by the model's name. No torch here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from medvq.config.schema import Schema

Positive = Annotated[int, Field(gt=0)]


class Svqvae(Schema):
    """Stacked two-level VQ-VAEs with a classifier head (SPEC §1); the defaults are the published setting."""

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
    codebook_size: Positive = 512
    """K, the number of codes of each codebook."""
    code_dim: Positive = 2
    """D, the length of a code."""
    beta: Annotated[float, Field(ge=0)] = 0.25
    """Weight of the commitment loss."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """γ of the codebook's moving averages."""
    init: Literal["kmeans", "normal"] = "kmeans"
    """Codes start at the k-means of the first training batch, or at N(0, 1) as the paper's do."""
    revive: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """A code used less than this share of the mean use N/K is replaced by an encoder output; 0 never does."""
    head: tuple[Positive, ...] | None = None
    """Hidden layers of the classifier head, built where the data have classes; by default twice the length of the
    flattened code, then 64, which is the published 512, 64 at 512 pixels."""


MODEL_CONFIGS: dict[str, type[Schema]] = {"svqvae": Svqvae}
"""The configuration class of each model."""
