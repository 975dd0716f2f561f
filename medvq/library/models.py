"""Make models, and list what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medvq.registry import MODELS, QUANTIZERS

if TYPE_CHECKING:
    from torch import nn


def create_model(name: str, *, input_shape: tuple[int, int, int], classes: int = 0, **settings: Any) -> nn.Module:
    """Create a model with new weights, as a study's `model: {name: …}` does.

    Weights are drawn from torch's global generator: call `torch.manual_seed` first for the same weights every time.
    Create it under `with torch.device("meta")` for shapes and parameter counts without memory.

    Args:
        name: name of a model (see `list_models`), or the import path `package.module:Name` of your own.
        input_shape: (channels, height, width) of the images.
        classes: number of classes of the classifier head; 0 builds no head.
        settings: settings of the model, as in a study. Mappings stand for nested settings, such as
            `quantizer={"name": "fsq"}`.

    Returns:
        The model, on the CPU, in training mode. Built-in models are autoencoders: called with images
        (B, channels, height, width), already normalized, they return codes and reconstructions.

    Raises:
        UsageError: there is no such model, a setting is wrong, or the model cannot take such images.

    Example:
        >>> import medvq, torch
        >>> model = medvq.create_model("vqvae", input_shape=(3, 64, 64), channels=32, codebook_size=128, code_dim=16)
        >>> model = model.eval()
        >>> with torch.no_grad():
        ...     found = model(torch.zeros(2, 3, 64, 64))
        >>> found.images[0].shape, {name: tuple(index.shape) for name, index in found.indices.items()}
        (torch.Size([2, 3, 64, 64]), {'level0': (2, 8, 8)})
    """
    from medvq.config.schema import validate
    from medvq.config.settings import model_settings
    from medvq.config.yamlfile import Document
    from medvq.models.build import build

    document = Document(path=f"model {name}", text="", data={"name": name, **settings})
    return build(validate(model_settings(name), document), input_shape=input_shape, classes=classes)


def list_models() -> list[str]:
    """Return the names of the built-in models, sorted.

    Example:
        >>> import medvq
        >>> medvq.list_models()
        ['svqvae', 'vqvae']
    """
    return sorted(MODELS)


def list_quantizers() -> list[str]:
    """Return the names of the built-in quantizers, sorted.

    A study chooses one with `model: {quantizer: {name: …}}`.

    Example:
        >>> import medvq
        >>> medvq.list_quantizers()
        ['cosine', 'ema', 'fsq', 'gradient', 'grouped']
    """
    return sorted(QUANTIZERS)
