"""One small instance of every registered quantizer. A test fails if a quantizer is missing here."""

from collections.abc import Callable

from medvq.models.quantize.base import Quantizer
from medvq.models.quantize.cosine import CosineQuantizer
from medvq.models.quantize.ema import EMAQuantizer
from medvq.models.quantize.fsq import FSQuantizer
from medvq.models.quantize.gradient import GradientQuantizer
from medvq.models.quantize.grouped import GroupedQuantizer

DIM = 4
"""Input channels of every case."""

CASES: dict[str, Callable[[], Quantizer]] = {
    "ema": lambda: EMAQuantizer(16, DIM, decay=0.6, revive=0.3),
    "gradient": lambda: GradientQuantizer(16, DIM, init="kmeans", decay=0.6, revive=0.3),
    "cosine": lambda: CosineQuantizer(16, DIM, dim=3, decay=0.6, revive=0.3),
    "grouped": lambda: GroupedQuantizer(EMAQuantizer(16, DIM // 2, decay=0.6, revive=0.3), 2),
    "fsq": lambda: FSQuantizer((4, 3, 5), DIM),
}
"""The decay is small and the threshold high, so codes die and are revived within a few steps."""

NEAREST = ("ema", "gradient", "grouped")
"""Quantizers that choose the nearest code in the space of their input."""
