"""Models by name."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from medvq.config.errors import UsageError, nearest
from medvq.config.schema import Schema
from medvq.models.svqvae import SVQVAE
from medvq.models.vqvae import VQVAE

MODELS: dict[str, type[nn.Module]] = {"svqvae": SVQVAE, "vqvae": VQVAE}
"""The class of each model; its configuration is `medvq.config.models.MODEL_CONFIGS` under the same name."""


def build(config: Schema, *, input_shape: tuple[int, int, int], classes: int = 0) -> nn.Module:
    """The model that `config` describes, for images of `input_shape` (C, H, W), with `classes` classes (0: none).

    Weights come from torch's global generator. Build under `torch.device("meta")` for shapes and counts alone.

    Raises:
        UsageError: there is no such model, or it cannot take such images.
    """
    name = str(getattr(config, "name", None))
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}", hint=nearest(name, MODELS))
    return cast("nn.Module", cast("Any", MODELS[name])(config, input_shape, classes))
