"""Keys of samples inside shards: unique, ASCII, without dots, and sorted in an order that depends on the content."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medvq.shards.source.patterns import stem

_LONGEST = 60


def keys_of(paths: Sequence[str], contents: Sequence[str], *, opaque: bool) -> list[str]:
    """Return one key per sample: 16 digits of the sha256 of its bytes and, unless `opaque`, its name in ASCII.

    As the hash comes first, keys are sorted independently of classes and names, and a reader that streams shards gets
    mixed classes. A name that begins with this hash, as in a dataset that is packed
    again, keeps one. A second sample of the same key gets `-2`, in the order of paths.
    """
    out = [""] * len(paths)
    taken: set[str] = set()
    for i in sorted(range(len(paths)), key=lambda i: paths[i]):
        key = contents[i][:16]
        if not opaque:
            key += "_" + slug(paths[i]).removeprefix(key + "_")
        n, free = 1, key
        while free in taken:
            n += 1
            free = f"{key}-{n}"
        taken.add(free)
        out[i] = free
    return out


def slug(path: str) -> str:
    """Return the stem of `path`, with `_` for everything but the letters and digits of ASCII, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem(path))[:_LONGEST]
