"""Models by name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from torch import nn

from medvq.config.schema import Schema
from medvq.errors import UsageError, suggest
from medvq.models.autoencoder import VQModel
from medvq.models.svqvae.model import SVQVAE
from medvq.models.vqvae.model import VQVAE
from medvq.registry import import_object, is_import_path

MODELS: dict[str, type[nn.Module]] = {"svqvae": SVQVAE, "vqvae": VQVAE}
"""The class of each model; its configuration is `medvq.config.models.MODEL_CONFIGS` under the same name."""


def build(
    config: Schema, *, input_shape: tuple[int, int, int], classes: int = 0, as_published: Collection[str] = ()
) -> nn.Module:
    """The model that `config` describes, for images of `input_shape` (C, H, W), with `classes` classes (0: none).

    Weights come from torch's global generator. Build under `torch.device("meta")` for shapes and counts alone. A
    user's own model is named by its import path and made as `Net(config, input_shape, classes)`.

    Raises:
        UsageError: there is no such model, or it cannot take such images.
    """
    name = str(getattr(config, "name", None))
    if name not in MODELS and not is_import_path(name):
        raise UsageError(f"unknown model {name!r}", hint=suggest(name, MODELS))
    kind = MODELS.get(name) or import_object(name, "model")
    model = cast("Any", kind)(config, input_shape, classes)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{name} is no torch.nn.Module")
    if isinstance(model, VQModel):
        model.as_published(as_published)
    return model
