"""What a study may say about codebooks: settings of the quantizers, and what models with codebooks have in common."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from medvq.config.settings import ModelSettings, QuantizerSettings
from medvq.registry import is_import_path

Positive = Annotated[int, Field(gt=0)]


class EMASettings(QuantizerSettings):
    """Codes are exponential moving averages of the vectors assigned to them."""

    name: Literal["ema"] = "ema"
    """The quantizer."""


class GradientSettings(QuantizerSettings):
    """Codes are learnt by gradient descent."""

    name: Literal["gradient"] = "gradient"
    """The quantizer."""


class CosineSettings(QuantizerSettings):
    """Codes are unit vectors in a low-dimensional projection, and moving averages there."""

    name: Literal["cosine"] = "cosine"
    """The quantizer."""
    dim: Positive = 16
    """Dimensions of the projection."""


class GroupedSettings(QuantizerSettings):
    """Several codes per position from one codebook: each vector is cut into equal parts."""

    name: Literal["grouped"] = "grouped"
    """The quantizer."""
    groups: Positive = 4
    """Parts per vector; the number must divide code_dim."""
    codes: Literal["ema", "gradient"] = "ema"
    """How the codebook learns."""

    def check(self, code_dim: int) -> None:
        """Raise ValueError if the groups do not divide `code_dim`."""
        if code_dim % self.groups:
            raise ValueError(f"{self.groups} groups do not divide a code_dim of {code_dim}")


class FSQSettings(QuantizerSettings):
    """A fixed grid instead of a codebook: each number is rounded to one of a few levels."""

    name: Literal["fsq"] = "fsq"
    """The quantizer."""
    levels: tuple[Annotated[int, Field(ge=2)], ...] = Field(default=(8, 8, 8), min_length=1)
    """Levels of each dimension; their product replaces codebook_size."""


class CodebookSettings(ModelSettings):
    """Settings that all models with codebooks have in common."""

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
    """A code used less than this share of the mean use N/K is replaced by an encoder output; 0 replaces none."""
    quantizer: SerializeAsAny[QuantizerSettings] = Field(default=EMASettings(), json_schema_extra={"neutral": True})
    """The kind of quantizer."""

    as_published: ClassVar[dict[str, str]] = {
        "ema_cold_start": "counts of the moving averages start at 0, so that codes not used at first move far away",
        "codebook_update_per_encode": "codebooks learn in every forward pass of a step, not once a step",
    }

    @property
    def import_paths(self) -> tuple[str, ...]:
        """Import paths of the user's own model and quantizer."""
        own = self.quantizer.name
        return (*super().import_paths, *((own,) if is_import_path(own) else ()))

    @model_validator(mode="after")
    def _quantizer_fits(self) -> Self:
        self.quantizer.check(self.code_dim)
        return self
