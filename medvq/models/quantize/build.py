"""Make the quantizers that a model's settings describe."""

from __future__ import annotations

from medvq.errors import UsageError
from medvq.models.quantize.base import Quantizer
from medvq.models.quantize.settings import CodebookSettings
from medvq.registry import QUANTIZERS


def make_quantizer(settings: CodebookSettings, name: str) -> Quantizer:
    """Return the quantizer of (B, code_dim, H, W) that `settings` describe.

    Args:
        settings: the settings of a model with codebooks.
        name: the codebook's name, such as `level0/top`; it keys the random draws.

    Raises:
        UsageError: there is no such quantizer.
    """
    kind = QUANTIZERS.find(settings.quantizer.name)
    if not issubclass(kind, Quantizer):
        raise UsageError(
            f"{settings.quantizer.name} is no quantizer", hint="derive it from medvq.models.quantize.base.Quantizer"
        )
    made: Quantizer = kind.from_settings(settings.quantizer, settings, name)
    return made
