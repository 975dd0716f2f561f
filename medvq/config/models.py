"""What a study may say about a model and its codebooks, by name. No torch here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from medvq.config.schema import Schema
from medvq.errors import UsageError, suggest
from medvq.registry import import_object, is_import_path

Positive = Annotated[int, Field(gt=0)]


class Ema(Schema):
    """Codes are moving averages of the vectors that chose them."""

    name: Literal["ema"] = "ema"
    """The quantizer."""


class Gradient(Schema):
    """Codes are learnt by gradient."""

    name: Literal["gradient"] = "gradient"
    """The quantizer."""


class Cosine(Schema):
    """Codes are unit vectors in a projection of few dimensions, and moving averages there."""

    name: Literal["cosine"]
    """The quantizer."""
    dim: Positive = 16
    """The dimensions of the projection."""


class Grouped(Schema):
    """Several codes per position, of one codebook: each vector is cut in equal parts."""

    name: Literal["grouped"]
    """The quantizer."""
    groups: Positive = 4
    """Parts per vector; they divide code_dim."""
    codes: Literal["ema", "gradient"] = "ema"
    """How the codebook learns."""


class Fsq(Schema):
    """A fixed grid instead of a codebook: numbers are rounded to a few levels each."""

    name: Literal["fsq"]
    """The quantizer."""
    levels: tuple[Annotated[int, Field(ge=2)], ...] = Field(default=(8, 8, 8), min_length=1)
    """Levels of each dimension; their product takes the place of codebook_size."""


QuantizerChoice = Annotated[Ema | Gradient | Cosine | Grouped | Fsq, Field(discriminator="name")]


class Codebooks(Schema):
    """What models with codebooks have in common."""

    codebook_size: Positive = 512
    """K, the number of codes of each codebook."""
    code_dim: Positive = 64
    """D, the length of a code."""
    beta: Annotated[float, Field(ge=0)] = 0.25
    """Weight of the commitment loss."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """γ of the moving averages, of codes and of how much each is used."""
    init: Literal["kmeans", "normal", "uniform"] = "kmeans"
    """Codes start at the k-means of the first training batch, at N(0, 1), or uniform in ±1/K."""
    revive: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """A code used less than this share of the mean use N/K is replaced by an encoder output; 0 never does."""
    quantizer: QuantizerChoice = Field(default=Ema(), json_schema_extra={"neutral": True})
    """The kind of quantizer."""

    as_published: ClassVar[dict[str, str]] = {
        "ema_cold_start": "counts of the moving averages start at 0: codes not used at first fly far away (SPEC §1)",
        "codebook_update_per_encode": "codebooks learn in every pass of a step, not once a step (SPEC §1)",
    }

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        choice = self.quantizer
        if isinstance(choice, Grouped) and self.code_dim % choice.groups:
            raise ValueError(f"{choice.groups} groups do not divide a code_dim of {self.code_dim}")
        return self


class Svqvae(Codebooks):
    """Stacked two-level VQ-VAEs with a classifier head (SPEC §1); the defaults are the published setting.

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
    """Hidden layers of the classifier head, built where the data have classes; by default twice the length of the
    flattened code, then 64, which is the published 512, 64 at 512 pixels."""


class Vqvae(Codebooks):
    """A VQ-VAE at an eighth of the image's side, with BatchNorm (SPEC §5); the defaults are the author's later code.

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
    """A code used less than this share of the mean use N/K is replaced by an encoder output; 0 never does."""
    quantizer: QuantizerChoice = Field(default=Gradient(), json_schema_extra={"neutral": True})
    """The kind of quantizer."""
    relu_codes: bool = False
    """End the encoder in a ReLU: as published in the report, and a mistake, for codes lie on both sides of 0."""
    output: Literal["tanh", "sigmoid", "linear"] = "tanh"
    """The last activation: tanh for pixels in [-1, 1], sigmoid for [0, 1], linear for any."""

    as_published: ClassVar[dict[str, str]] = {
        **Codebooks.as_published,
        "norms_weigh_less": "squared norms count 0.3 in distances, so that the pick is not the nearest code (SPEC §5)",
    }


class Custom(Schema):
    """Settings of a user's own model: derive from it as `Settings` in the model's class and add fields."""

    revision: ClassVar[int] = 0

    name: str
    """The model's import path."""


MODEL_CONFIGS: dict[str, type[Schema]] = {"svqvae": Svqvae, "vqvae": Vqvae}
"""The configuration class of each model."""


def find_model_config(name: str) -> type[Schema]:
    """The configuration class of a model by its name, or by the import path of a user's own.

    Raises:
        UsageError: there is none.
    """
    if name in MODEL_CONFIGS:
        return MODEL_CONFIGS[name]
    if not is_import_path(name):
        raise UsageError(f"unknown model {name!r}", hint=suggest(name, MODEL_CONFIGS))
    found = getattr(import_object(name, "model"), "Settings", Custom)
    if not (isinstance(found, type) and issubclass(found, Custom)):
        raise UsageError(f"{name}.Settings is no medvq.config.models.Custom", hint="derive it from Custom")
    return found
