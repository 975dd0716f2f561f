"""Compare a file with the official releases that a recipe names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from medvq.config.recipe import Release


def official_notes(file: Path, releases: Sequence[Release], counts: Mapping[str, int]) -> list[str]:
    """Return a note if a file is none of the official ones.

    Args:
        file: the file.
        releases: the releases that the recipe names.
        counts: number of images in each split of the file.
    """
    if not releases:
        return []
    with file.open("rb") as f:
        md5 = hashlib.file_digest(f, "md5").hexdigest()
    if any(md5 in release.md5.values() for release in releases):
        return []
    release = next((r for r in releases if dict(counts) == r.splits), releases[0])
    odd = [
        f"{split} has {counts.get(split, 0)} images instead of {release.splits.get(split, 0)}"
        for split in dict.fromkeys([*release.splits, *counts])
        if counts.get(split, 0) != release.splits.get(split, 0)
    ]
    named = release.md5.get(file.name)
    what = f"its md5 is {md5}" + (f", not {named}" if named else f", which is none of those of {release.name}")
    return [f"{file.name} is not the official file of {release.name}: {', '.join([what, *odd])}"]
