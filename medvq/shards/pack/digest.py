"""The digest of a dataset: a hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from medvq.config.recipe import Recipe
from medvq.keys import canonical_json
from medvq.shards.dataset.index import Row
from medvq.shards.dataset.manifest import FORMAT
from medvq.shards.pack.layout import PlacedSample


def pixel_part(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of the recipe that change stored pixels, in canonical form."""
    names = {"crop", "size", "fit", "channels", "background", "window", "mask_values", "masks_turned"}
    part = recipe.model_dump(mode="json", include=names, exclude_defaults=True)
    return {**part, "jpeg": recipe.quality} if recipe.store == "jpeg" else part


def digest_of(samples: Sequence[PlacedSample], recipe: Recipe, classes: Sequence[str]) -> str:
    """Return the digest of a dataset: 64 hex digits over its content.

    The digest does not depend on file names, times or versions of encoders. It is the sha256 of the canonical JSON of
    [format, pixel part of the recipe, classes], followed by one line per sample, sorted: [sha256, mask sha256, label,
    split, group, rank]. A group is named by the smallest sha256 in it.
    """
    least: dict[str, str] = {}
    for p in samples:
        if p.row.group is not None:
            least[p.row.group] = min(p.row.sha256, least.get(p.row.group, p.row.sha256))
    lines = [_line(p.row, least.get(p.row.group or "")) for p in samples]
    whole = hashlib.sha256(canonical_json([FORMAT, pixel_part(recipe), list(classes)]).encode())
    for line in sorted(lines):
        whole.update(b"\n" + line.encode())
    return whole.hexdigest()


def _line(row: Row, group: str | None) -> str:
    """Return the canonical JSON of one sample: `[sha256, mask sha256, label, split, group, rank]`."""
    mask, least = (f'"{text}"' if text else "null" for text in (row.mask_sha256, group))
    return f'["{row.sha256}",{mask},{row.label},"{row.split}",{least},{row.rank}]'
