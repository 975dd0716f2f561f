"""Split a batch into chunks that fit in a CPU's cache."""

from __future__ import annotations

from torch import Tensor

IN_CACHE = 1 << 17
"""Number of elements that are processed at once on a CPU. More would leave its cache between two passes."""


def chunks(x: Tensor) -> list[slice]:
    """Return slices of x (B, …) that cover it: chunks of at most `IN_CACHE` elements on a CPU, else one slice."""
    at_once = max(1, IN_CACHE // x[0].numel()) if x.device.type == "cpu" else len(x)
    return [slice(start, min(start + at_once, len(x))) for start in range(0, len(x), at_once)]
