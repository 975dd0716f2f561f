"""Bases of what a study may say about a model, a quantizer and an objective. The classes that derive from them stand
beside the code that they configure, in files that do not import torch.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import ModelWrapValidatorHandler, model_validator

from medvq.config.schema import Schema
from medvq.errors import UsageError
from medvq.registry import MODELS, QUANTIZERS, is_import_path

PixelRange = Literal["any", "unit", "symmetric"]
"""Values that a model can put out: any number, [0, 1], or [-1, 1]."""


class ModelSettings(Schema):
    """Settings of a model: the keys under `model` in a study.

    A user's own model has a nested class `Settings` that derives from this one and adds fields.
    """

    revision: ClassVar[int] = 0
    """Raised when the same settings would give other numbers; part of every run's identity."""
    as_published: ClassVar[dict[str, str]] = {}
    """Mistakes of papers that can be switched on, by name, each described in a line."""

    name: str
    """The model: a built-in name, or the import path of a user's own."""

    @property
    def pixel_range(self) -> PixelRange:
        """Values that the model's last activation can produce. They decide how pixels are scaled."""
        return "any"

    @property
    def import_paths(self) -> tuple[str, ...]:
        """Import paths of the user's own code that these settings name."""
        return (self.name,) if is_import_path(self.name) else ()


class QuantizerSettings(Schema):
    """Settings of a quantizer: the keys under `model.quantizer` in a study.

    A user's own quantizer has a nested class `Settings` that derives from this one and adds fields. Validating data as
    a `QuantizerSettings` gives the settings class of the quantizer that `name` names.
    """

    name: str
    """The quantizer: a built-in name, or the import path of a user's own."""

    @model_validator(mode="wrap")
    @classmethod
    def _of_the_named_quantizer(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if cls is not QuantizerSettings or not isinstance(data, dict) or "name" not in data:
            return handler(data)
        try:
            kind = QUANTIZERS.find_description(str(data["name"]), default=QuantizerSettings)
        except UsageError as e:
            raise ValueError(f"{e.error} ({e.hint})" if e.hint else e.error) from e
        if kind is QuantizerSettings:
            return handler(data)
        found: Self = kind.model_validate(data)
        return found

    @classmethod
    def variants(cls) -> list[type[Schema]]:
        """Return every settings class that may stand where a `QuantizerSettings` is expected, as far as imported."""
        waiting, found = [cls], list[type[Schema]]()
        while waiting:
            kind = waiting.pop()
            found.append(kind)
            waiting += kind.__subclasses__()
        return found

    def check(self, code_dim: int) -> None:
        """Raise ValueError if the quantizer cannot take codes of `code_dim` numbers."""


class Objective(Schema):
    """Settings of what a task minimises: the keys under `objective` in a study."""

    @property
    def reads_masks(self) -> bool:
        """Whether held-out images are measured with their masks."""
        return False

    @property
    def trains_head_alone(self) -> bool:
        """Whether only the classifier head of the model learns."""
        return False


def model_settings(name: str) -> type[ModelSettings]:
    """Return the settings class of a model by its name, or by the import path of a user's own.

    Raises:
        UsageError: there is no such model.
    """
    found = MODELS.find_description(name, default=ModelSettings)
    if not (isinstance(found, type) and issubclass(found, ModelSettings)):
        raise UsageError(
            f"{name}.Settings is no medvq.config.settings.ModelSettings", hint="derive it from ModelSettings"
        )
    return found
