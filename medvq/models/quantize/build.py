"""Create the quantizers of a model from its settings."""

from __future__ import annotations

from medvq.errors import UsageError
from medvq.models.quantize.base import Quantizer
from medvq.models.quantize.settings import CodebookSettings
from medvq.registry import QUANTIZERS


def make_quantizer(settings: CodebookSettings, name: str) -> Quantizer:
    """Create one quantizer for encoder outputs (B, code_dim, H, W).

    Args:
        settings: settings of a model with codebooks.
        name: name of the codebook, such as `level0/top`; it keys the random draws.

    Raises:
        UsageError: there is no such quantizer, or the class is not a `Quantizer`.
    """
    kind = QUANTIZERS.find(settings.quantizer.name)
    if not issubclass(kind, Quantizer):
        raise UsageError(
            f"{settings.quantizer.name} is not a quantizer", hint="derive it from medvq.models.quantize.base.Quantizer"
        )
    made: Quantizer = kind.from_settings(settings.quantizer, settings, name)
    return made
