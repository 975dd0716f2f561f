"""Texts in a recipe: path patterns and sizes."""

from __future__ import annotations

import re

FIELDS = frozenset({"class", "split", "group", "id", "ext", "name", "*", "**"})
"""Fields that a path pattern may have, in braces."""


def check_pattern(text: str) -> None:
    """Raise ValueError if a path pattern has an unknown field or leaves the source."""
    unknown = [f for f in re.findall(r"\{([^{}]*)\}", text) if f not in FIELDS]
    if unknown:
        raise ValueError(
            f"{{{unknown[0]}}} is no field of a path pattern; there are {{class}}, {{split}}, {{group}}, "
            "{id}, {ext}, {name}, {*} and {**}"
        )
    if text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{text!r} leaves the source; patterns are relative to it")


def parse_size(text: str) -> tuple[int, int]:
    """Return `64` or `240x256` (height x width) as `(height, width)`.

    Raises:
        ValueError: the text is neither.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(p.strip().isdigit() and 0 < int(p) < 65536 for p in parts):
        raise ValueError(f"{text!r} is no size: give N or HxW")
    return int(parts[0]), int(parts[-1])
