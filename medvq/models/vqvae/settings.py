"""Settings of the VQ-VAE with one level and BatchNorm."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from medvq.config.settings import PixelRange, QuantizerSettings
from medvq.models.quantize.settings import CodebookSettings, GradientSettings, Positive

RANGES: dict[str, PixelRange] = {"tanh": "symmetric", "sigmoid": "unit", "linear": "any"}


class VQVAESettings(CodebookSettings):
    """A VQ-VAE with BatchNorm whose code has an eighth of the image's side. The author's code gives the defaults.

    The diagram in the author's report has `residual_blocks: 0` and `relu_codes: true`.
    """

    revision: ClassVar[int] = 2

    name: Literal["vqvae"] = "vqvae"
    """The model."""
    channels: Positive = 128
    """Channels of the hidden layers."""
    residual_blocks: Annotated[int, Field(ge=0)] = 2
    """Residual blocks at the end of the encoder, and at the start of the decoder."""
    codebook_size: Positive = 32
    """K, the number of codes."""
    code_dim: Positive = 128
    """D, the length of a code and the number of output channels of the encoder."""
    init: Literal["kmeans", "normal", "uniform"] = "uniform"
    """Initial codes: uniform in ±1/K, N(0, 1), or k-means of the first training batch."""
    revive: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A code used less than this share of the mean usage N/K is replaced by an encoder output; 0 replaces none."""
    quantizer: SerializeAsAny[QuantizerSettings] = Field(
        default=GradientSettings(), json_schema_extra={"neutral": True}
    )
    """The kind of quantizer."""
    relu_codes: bool = False
    """End the encoder with a ReLU, as in the report. This is a mistake: the codes have both signs."""
    output: Literal["tanh", "sigmoid", "linear"] = "tanh"
    """The last activation: `tanh` for pixels in [-1, 1], `sigmoid` for [0, 1], `linear` for any range."""

    as_published: ClassVar[dict[str, str]] = {
        **CodebookSettings.as_published,
        "norms_weigh_less": "squared norms have weight 0.3 in distances, so the chosen code is not always the nearest",
    }

    @property
    def pixel_range(self) -> PixelRange:
        """Range of the last activation."""
        return RANGES[self.output]
