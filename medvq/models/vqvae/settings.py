"""What a study may say about the single-level VQ-VAE with BatchNorm."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from medvq.config.settings import PixelRange, QuantizerSettings
from medvq.models.quantize.settings import CodebookSettings, GradientSettings, Positive

RANGES: dict[str, PixelRange] = {"tanh": "symmetric", "sigmoid": "unit", "linear": "any"}


class VQVAESettings(CodebookSettings):
    """A VQ-VAE at an eighth of the image's side, with BatchNorm; the defaults are the author's later code.

    The report's diagram has `residual_blocks: 0` and `relu_codes: true`.
    """

    revision: ClassVar[int] = 2

    name: Literal["vqvae"] = "vqvae"
    """The model."""
    channels: Positive = 128
    """Channels of the hidden layers."""
    residual_blocks: Annotated[int, Field(ge=0)] = 2
    """Residual blocks after the encoder and before the decoder."""
    codebook_size: Positive = 32
    """K, the number of codes."""
    code_dim: Positive = 128
    """D, the length of a code, and the channels that the encoder puts out."""
    init: Literal["kmeans", "normal", "uniform"] = "uniform"
    """Codes start uniform in ±1/K, at N(0, 1), or at the k-means of the first training batch."""
    revive: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A code used less than this share of the mean use N/K is replaced by an encoder output; 0 replaces none."""
    quantizer: SerializeAsAny[QuantizerSettings] = Field(
        default=GradientSettings(), json_schema_extra={"neutral": True}
    )
    """The kind of quantizer."""
    relu_codes: bool = False
    """End the encoder with a ReLU, as published in the report: a mistake, because codes lie on both sides of 0."""
    output: Literal["tanh", "sigmoid", "linear"] = "tanh"
    """The last activation: tanh for pixels in [-1, 1], sigmoid for [0, 1], linear for any."""

    as_published: ClassVar[dict[str, str]] = {
        **CodebookSettings.as_published,
        "norms_weigh_less": "squared norms count 0.3 in distances, so that the chosen code is not the nearest one",
    }

    @property
    def pixel_range(self) -> PixelRange:
        """Values that the last activation can produce."""
        return RANGES[self.output]
