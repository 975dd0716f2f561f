"""Quantizers by name."""

from __future__ import annotations

from medvq.config.models import Codebooks, Cosine, Fsq, Grouped
from medvq.models.quantize.base import Quantizer
from medvq.models.quantize.cosine import CosineQuantizer
from medvq.models.quantize.ema import EMAQuantizer
from medvq.models.quantize.fsq import FSQuantizer
from medvq.models.quantize.gradient import GradientQuantizer
from medvq.models.quantize.grouped import GroupedQuantizer

QUANTIZERS: dict[str, type[Quantizer]] = {
    "ema": EMAQuantizer,
    "gradient": GradientQuantizer,
    "cosine": CosineQuantizer,
    "grouped": GroupedQuantizer,
    "fsq": FSQuantizer,
}
"""The class of each quantizer."""


def make_quantizer(config: Codebooks, name: str) -> Quantizer:
    """The quantizer of (B, code_dim, H, W) that `config` describes; `name` keys its draws."""
    size, dim, choice = config.codebook_size, config.code_dim, config.quantizer

    def learnt(kind: str, dim: int) -> Quantizer:
        make = GradientQuantizer if kind == "gradient" else EMAQuantizer
        return make(size, dim, beta=config.beta, decay=config.decay, init=config.init, revive=config.revive, name=name)

    match choice:
        case Fsq():
            return FSQuantizer(choice.levels, dim, name=name)
        case Grouped():
            return GroupedQuantizer(learnt(choice.codes, dim // choice.groups), choice.groups)
        case Cosine():
            return CosineQuantizer(
                size,
                dim,
                dim=choice.dim,
                beta=config.beta,
                decay=config.decay,
                init=config.init,
                revive=config.revive,
                name=name,
            )
        case _:
            return learnt(choice.name, dim)
