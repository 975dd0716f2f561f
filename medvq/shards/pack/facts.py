"""What the manifest says of a dataset that is being made: counts, statistics, rules used, what was left out."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from typing import Any

from medvq.config.recipe import Recipe
from medvq.shards.dataset.manifest import INSIDE, ImageFacts, Split, Statistics, split_order
from medvq.shards.image.decode import RULES
from medvq.shards.image.phash import MOST
from medvq.shards.image.statistics import mean_and_std
from medvq.shards.pack.layout import Planned, ShardLayout, digest_of, duplicates_of, near_of
from medvq.shards.source.base import Left
from medvq.shards.source.checks import ungrouped_notes, untrained_notes
from medvq.shards.source.resolve import ResolvedSource, inputs_of
from medvq.shards.source.scan import printable

DARK = 65535 / 4
"""16-bit images of which none reaches this were not made to be scaled by their full range."""


def facts_of(understood: ResolvedSource, plan: ShardLayout, skipped: list[Left]) -> dict[str, Any]:
    """Everything the manifest says, but for the files that are written."""
    recipe, arranged, planned = understood.recipe, understood.arranged, plan.planned
    channels = max(p.examined.channels for p in planned)
    widths, heights = {p.row.width for p in planned}, {p.row.height for p in planned}
    split = "train" if any(p.row.split == "train" for p in planned) else "all"
    counted = [p.examined.sums for p in planned if split == "all" or p.row.split == split]
    mean, std = mean_and_std(counted, channels)
    rules = Counter(r for p in planned for r in p.examined.rules)
    values = Counter(v for p in planned for v in p.examined.mask_values)
    near, duplicates = near_of(planned), duplicates_of(planned)
    return {
        "name": recipe.name or "",
        "digest": digest_of(planned, recipe, arranged.classes),
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
        "layout": understood.layout,
        "classes": arranged.classes,
        "splits": _splits(planned, arranged.classes),
        "counts": {
            "seen": understood.seen,
            "written": len(planned),
            "skipped": len(skipped),
            "ignored": len(arranged.ignored),
        },
        "image": ImageFacts(width=_only(widths), height=_only(heights), channels=channels, store=recipe.store),
        "statistics": Statistics(split=split, images=len(counted), mean=mean, std=std),
        "conversions": {
            r: {"text": RULES[r].format_map(recipe.model_dump(mode="json")), "images": n}
            for r, n in sorted(rules.items())
        },
        "mask_values": {str(v): n for v, n in sorted(values.items())},
        "licence": recipe.licence,
        "source": recipe.source,
        "cite": recipe.cite,
        "skipped": _listed(skipped, recipe),
        "ignored": _listed(arranged.ignored, recipe),
        "leaks": plan.leaks,
        "duplicates": duplicates,
        "near_duplicates": near[:1000],
        "notes": _notes(understood, plan, duplicates, near, values),
        "inputs": inputs_of(understood, _contents(planned)),
        "written_by": versions(),
    }


def _contents(planned: list[Planned]) -> dict[str, str]:
    """sha256 by path of the files that were read."""
    out = {p.sample.path: p.row.sha256 for p in planned}
    return out | {p.sample.mask.path: p.row.mask_sha256 for p in planned if p.sample.mask and p.row.mask_sha256}


def _only(values: set[int]) -> int | None:
    return values.pop() if len(values) == 1 else None


def _listed(rows: list[Left], recipe: Recipe) -> list[dict[str, str]]:
    if not recipe.opaque_keys:
        return [{"path": printable(r.path), "reason": r.reason} for r in rows]
    # Names may be patients' names, and reasons may quote them.
    hashed = [(hashlib.sha256(r.path.encode("utf-8", "surrogateescape")).hexdigest()[:16], r) for r in rows]
    return [{"path": h, "reason": r.reason.split(":")[0]} for h, r in sorted(hashed, key=lambda x: x[0])]


def _splits(planned: list[Planned], classes: list[str]) -> dict[str, Split]:
    out = {}
    for name in split_order({p.row.split for p in planned}):
        rows = [p.row for p in planned if p.row.split == name]
        labels = Counter(r.label for r in rows)
        groups = {r.group for r in rows} - {None}
        out[name] = Split(
            samples=len(rows),
            masks=sum(r.mask_sha256 is not None for r in rows),
            groups=len(groups) or None,
            classes={c: labels[i] for i, c in enumerate(classes)},
        )
    return out


def _notes(
    understood: ResolvedSource,
    plan: ShardLayout,
    duplicates: list[list[str]],
    near: list[dict[str, Any]],
    mask_values: Counter[int],
) -> list[str]:
    # What was noted of the source quotes names.
    recipe = understood.recipe
    notes = [] if recipe.opaque_keys else list(understood.arranged.notes)
    if recipe.opaque_keys:
        notes += ungrouped_notes(recipe, [p.row.group for p in plan.planned])
    if recipe.opaque_keys or recipe.splits.make:
        notes += untrained_notes((p.row.split, p.sample.label) for p in plan.planned)
    if duplicates:
        more = sum(len(d) - 1 for d in duplicates)
        notes.append(f"{more} images are copies of another one with the same label and split")
    if near:
        shown = " and ".join(near[0]["keys"])
        notes.append(f"{len(near)} pairs of images in different splits look alike, such as {shown}")
    highest = max(p.examined.highest for p in plan.planned)
    if 0 < highest < DARK:
        white = 2 ** highest.bit_length() - 1
        notes.append(
            f"no 16-bit image goes above {highest}, and all come out dark: set `window: [0, {white}]` in a recipe"
        )
    unsure = sum("mask orientation" in p.examined.rules for p in plan.planned)
    if unsure:
        notes.append(
            f"{unsure} masks of images with an EXIF orientation fit turned and not, and were turned with their images: "
            "say in a recipe `masks_turned: true` if they lie as the images are looked at, else `masks_turned: false`"
        )
    odd = sorted(set(mask_values) - {0, 255})
    if odd:
        shown = ", ".join(map(str, odd[:8])) + (", ..." if len(odd) > 8 else "")
        notes.append(f"masks hold other values than 0 and 255: {shown}; pixels are kept from {INSIDE} up")
    if mask_values and max(mask_values) < INSIDE:
        notes.append(f"no mask reaches {INSIDE}, so that none keeps a pixel; map values with `mask_values` in a recipe")
    if len(plan.planned) > MOST and len(plan.splits) > 1:
        notes.append(f"look-alikes across splits were not looked for among more than {MOST:,} images")
    return notes


@cache
def versions() -> dict[str, str]:
    """The libraries on which stored bytes may depend."""
    from importlib.metadata import PackageNotFoundError, version

    out = {}
    for name in ("medvq", "pillow", "simplejpeg", "numpy", "pyarrow"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "unknown"
    return out
