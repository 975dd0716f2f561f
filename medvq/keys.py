"""Canonical JSON, and keys derived from it: run identities and seeds of random draws."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Return `value` as JSON text; equal values give equal text.

    Keys are sorted, there are no spaces, tuples become lists, and floats without a fractional part (below 2^53 in
    absolute value) become integers.

    Raises:
        ValueError: `value` contains NaN or an infinity.
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
    """Return the SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def draw_key(*parts: Any) -> int:
    """Return the seed of one random draw in [0, 2^63), a hash of `parts`, such as `draw_key(seed, step, "flip")`."""
    return int(sha256_of(list(parts))[:16], 16) >> 1
