"""Make the model that settings describe."""

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
    """Return the model that `settings` describe.

    Weights are drawn from torch's global generator. Under `torch.device("meta")` nothing is allocated, which is enough
    for shapes and counts. A user's own model is made as `Net(settings, input_shape, classes)`.

    Args:
        settings: the settings of the model.
        input_shape: (C, H, W) of the images.
        classes: number of classes of the classifier head; 0 builds none.
        as_published: mistakes of papers that are switched on.

    Raises:
        UsageError: there is no such model, or it cannot take such images.
    """
    kind: Any = MODELS.find(settings.name)
    model = kind(settings, input_shape, classes)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{settings.name} is no torch.nn.Module")
    if isinstance(model, VQModel):
        model.as_published(as_published)
    return model
