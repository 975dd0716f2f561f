"""Parse durations."""

from __future__ import annotations

import re

SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "d": 86400}


def seconds(text: str | int | float) -> float:
    """Return a duration such as `5 min`, `90 s`, `1.5 h` or a bare number of seconds, in seconds.

    Raises:
        ValueError: the text is no duration, or not above zero.
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([a-z]*)\s*", str(text))
    if not match or (match[2] or "s") not in SECONDS:
        raise ValueError(f"not a duration: {text!r}; write it like 90 s, 5 min or 1.5 h")
    value = float(match[1]) * SECONDS[match[2] or "s"]
    if value <= 0:
        raise ValueError(f"a duration must be above zero, not {text!r}")
    return value
