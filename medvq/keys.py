"""Canonical JSON and the keys made from it: identities, and the seed of every random draw."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, integral floats as integers, no NaN.

    Raises:
        ValueError: the value holds NaN or an infinity.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def sha256_of(value: Any) -> str:
    """Hex sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def draw_key(*parts: Any) -> int:
    """The 63-bit seed of one random draw, a pure function of what it is for: `draw_key(seed, step, "flip")`."""
    return int(sha256_of(list(parts))[:16], 16) >> 1
