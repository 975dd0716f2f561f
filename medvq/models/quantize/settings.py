"""Settings of the quantizers, and settings that all models with codebooks share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from medvq.config.settings import ModelSettings, QuantizerSettings
from medvq.registry import is_import_path

Positive = Annotated[int, Field(gt=0)]


class EMASettings(QuantizerSettings):
    """Codes are exponential moving averages of the vectors assigned to them (van den Oord et al. 2017)."""

    name: Literal["ema"] = "ema"
    """The quantizer."""


class GradientSettings(QuantizerSettings):
    """Codes are trained by gradient descent (van den Oord et al. 2017)."""

    name: Literal["gradient"] = "gradient"
    """The quantizer."""


class CosineSettings(QuantizerSettings):
    """Codes are unit vectors in a low-dimensional projection, updated by moving averages (Yu et al. 2022)."""

    name: Literal["cosine"] = "cosine"
    """The quantizer."""
    dim: Positive = 16
    """Dimension of the projection."""


class GroupedSettings(QuantizerSettings):
    """Several codes per position from one codebook: each vector is split into equal parts."""

    name: Literal["grouped"] = "grouped"
    """The quantizer."""
    groups: Positive = 4
    """Number of parts per vector; it must divide code_dim."""
    codes: Literal["ema", "gradient"] = "ema"
    """How the codes are trained."""

    def check(self, code_dim: int) -> None:
        """Raise ValueError if `groups` does not divide `code_dim`."""
        if code_dim % self.groups:
            raise ValueError(f"{self.groups} groups do not divide a code_dim of {code_dim}")


class FSQSettings(QuantizerSettings):
    """A fixed grid instead of a codebook: each number is rounded to one of a few levels (Mentzer et al. 2023)."""

    name: Literal["fsq"] = "fsq"
    """The quantizer."""
    levels: tuple[Annotated[int, Field(ge=2)], ...] = Field(default=(8, 8, 8), min_length=1)
    """Number of levels of each dimension; their product replaces codebook_size."""


class CodebookSettings(ModelSettings):
    """Settings that all models with codebooks share."""

    codebook_size: Positive = 512
    """K, the number of codes of each codebook."""
    code_dim: Positive = 64
    """D, the length of a code."""
    beta: Annotated[float, Field(ge=0)] = 0.25
    """Weight of the commitment loss."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """γ, the decay of the moving averages of codes and of their usage."""
    init: Literal["kmeans", "normal", "uniform"] = "kmeans"
    """Initial codes: k-means of the first training batch, N(0, 1), or uniform in ±1/K."""
    revive: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """A code used less than this share of the mean usage N/K is replaced by an encoder output; 0 replaces none."""
    quantizer: SerializeAsAny[QuantizerSettings] = Field(default=EMASettings(), json_schema_extra={"neutral": True})
    """The kind of quantizer."""

    as_published: ClassVar[dict[str, str]] = {
        "ema_cold_start": "counts of the moving averages start at 0, which moves initially unused codes far away",
        "codebook_update_per_encode": "codebooks are updated in every forward pass of a step, not once per step",
    }

    @property
    def import_paths(self) -> tuple[str, ...]:
        """Import paths of the model and the quantizer, as far as they are the user's own."""
        own = self.quantizer.name
        return (*super().import_paths, *((own,) if is_import_path(own) else ()))

    @model_validator(mode="after")
    def _quantizer_fits(self) -> Self:
        self.quantizer.check(self.code_dim)
        return self
