"""One small case of every registered quantizer; a quantizer without a case fails the suite."""

from collections.abc import Callable

from medvq.models.quantize.base import Quantizer
from medvq.models.quantize.ema import EMAQuantizer

DIM = 4
"""Channels of every case's input."""

CASES: dict[str, Callable[[], Quantizer]] = {
    "ema": lambda: EMAQuantizer(16, DIM, decay=0.6, revive=0.3),
}
