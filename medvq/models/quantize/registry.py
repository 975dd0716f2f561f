"""Quantizers by name."""

from __future__ import annotations

from medvq.models.quantize.base import Quantizer
from medvq.models.quantize.ema import EMAQuantizer

QUANTIZERS: dict[str, type[Quantizer]] = {"ema": EMAQuantizer}
"""The class of each quantizer."""
