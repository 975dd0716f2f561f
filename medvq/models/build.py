"""Build a model from its settings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from medvq.config.settings import ModelSettings
from medvq.errors import UsageError
from medvq.models.autoencoder import VQModel
from medvq.registry import MODELS


def build(
    settings: ModelSettings, *, input_shape: tuple[int, int, int], classes: int = 0, as_published: Collection[str] = ()
) -> nn.Module:
    """Build a model.

    Weights are drawn from torch's global random generator. Under `torch.device("meta")` no memory is allocated; this
    is enough for shapes and parameter counts. A user's own model is constructed as
    `Net(settings, input_shape, classes)`.

    Args:
        settings: the settings of the model.
        input_shape: (C, H, W) of the images.
        classes: number of classes of the classifier head; 0 for no head.
        as_published: names of known mistakes of published implementations to switch on.

    Raises:
        UsageError: there is no such model, or it does not support the image size.
    """
    kind: Any = MODELS.find(settings.name)
    model = kind(settings, input_shape, classes)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{settings.name} is not a torch.nn.Module")
    if isinstance(model, VQModel):
        model.as_published(as_published)
    return model
