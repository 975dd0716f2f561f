"""What the manifest says about a new dataset: counts, statistics, conversions, and what was left out."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from medvq.config.recipe import Recipe
from medvq.shards.dataset.manifest import INSIDE, ImageFacts, Split, Statistics, split_order
from medvq.shards.image.decode import RULES
from medvq.shards.image.phash import MOST, near_pairs
from medvq.shards.image.remarks import REMARKS
from medvq.shards.image.statistics import mean_and_std
from medvq.shards.pack.digest import digest_of
from medvq.shards.pack.layout import PlacedSample, ShardLayout
from medvq.shards.source.base import Left
from medvq.shards.source.checks import ungrouped_notes, untrained_notes
from medvq.shards.source.resolve import ResolvedSource, inputs_of
from medvq.shards.source.scan import printable

DARK = 65535 / 4
"""If no 16-bit image reaches this value, the images probably do not use the full range, and come out dark."""


def facts_of(resolved: ResolvedSource, layout: ShardLayout, skipped: list[Left]) -> dict[str, Any]:
    """Return the fields of the manifest, except those that describe the written files."""
    recipe, arranged, samples = resolved.recipe, resolved.arranged, layout.samples
    channels = max(p.examined.channels for p in samples)
    widths, heights = {p.row.width for p in samples}, {p.row.height for p in samples}
    split = "train" if any(p.row.split == "train" for p in samples) else "all"
    counted = [p.examined.sums for p in samples if split == "all" or p.row.split == split]
    mean, std = mean_and_std(counted, channels)
    rules = Counter(r for p in samples for r in p.examined.rules)
    values = Counter(v for p in samples for v in p.examined.mask_values)
    near, duplicates = _look_alikes(samples), _duplicates(samples)
    return {
        "name": recipe.name or "",
        "digest": digest_of(samples, recipe, arranged.classes),
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
        "layout": resolved.layout,
        "classes": arranged.classes,
        "splits": _splits(samples, arranged.classes),
        "counts": {
            "seen": resolved.seen,
            "written": len(samples),
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
        "leaks": layout.leaks,
        "duplicates": duplicates,
        "near_duplicates": near[:1000],
        "remarks": _remarks(samples),
        "guesses": [] if recipe.opaque_keys else [asdict(g) for g in arranged.guesses],
        "notes": _notes(resolved, layout, duplicates, near, values),
        "inputs": inputs_of(resolved, _contents(samples)),
        "written_by": versions(),
    }


def _remarks(samples: Sequence[PlacedSample]) -> dict[str, list[list[str]]]:
    """Return for each kind of remark the samples that it is about, as [key, detail]."""
    out: dict[str, list[list[str]]] = defaultdict(list)
    for p in samples:
        for kind, detail in p.examined.remarks:
            out[kind].append([p.row.key, detail])
    return {kind: out[kind] for kind in REMARKS if kind in out}


def _remark_notes(samples: Sequence[PlacedSample], *, opaque: bool) -> list[str]:
    """Return a note for each kind of remark, with a number and an example."""
    notes = []
    remarked = [p for p in samples if p.examined.remarks]
    for kind, text in REMARKS.items():
        about = [(p, detail) for p in remarked for k, detail in p.examined.remarks if k == kind]
        if not about:
            continue
        first, detail = min(about, key=lambda x: x[0].sample.path)
        example = first.row.key if opaque else first.sample.path
        notes.append(f"{len(about)} {text} ({example}" + (f": {detail})" if detail else ")"))
    return notes


def _contents(samples: list[PlacedSample]) -> dict[str, str]:
    """Return the sha256 of each file that was read, by path."""
    out = {p.sample.path: p.row.sha256 for p in samples}
    return out | {p.sample.mask.path: p.row.mask_sha256 for p in samples if p.sample.mask and p.row.mask_sha256}


def _only(values: set[int]) -> int | None:
    return values.pop() if len(values) == 1 else None


def _listed(rows: list[Left], recipe: Recipe) -> list[dict[str, str]]:
    if not recipe.opaque_keys:
        return [{"path": printable(r.path), "reason": r.reason} for r in rows]
    # Names may be patients' names, and reasons may quote them.
    hashed = [(hashlib.sha256(r.path.encode("utf-8", "surrogateescape")).hexdigest()[:16], r) for r in rows]
    return [{"path": h, "reason": r.reason.split(":")[0]} for h, r in sorted(hashed, key=lambda x: x[0])]


def _splits(samples: list[PlacedSample], classes: list[str]) -> dict[str, Split]:
    out = {}
    for name in split_order({p.row.split for p in samples}):
        rows = [p.row for p in samples if p.row.split == name]
        labels = Counter(r.label for r in rows)
        groups = {r.group for r in rows} - {None}
        out[name] = Split(
            samples=len(rows),
            masks=sum(r.mask_sha256 is not None for r in rows),
            groups=len(groups) or None,
            classes={c: labels[i] for i, c in enumerate(classes)},
        )
    return out


def _duplicates(samples: Sequence[PlacedSample]) -> list[list[str]]:
    """Return the keys of samples of one split with the same bytes, as one list per content."""
    by_content: dict[tuple[str, str], list[str]] = defaultdict(list)
    for p in samples:
        by_content[p.row.sha256, p.row.split].append(p.row.key)
    return sorted(keys for keys in by_content.values() if len(keys) > 1)


def _look_alikes(samples: Sequence[PlacedSample]) -> list[dict[str, Any]]:
    """Return pairs of samples of different splits that look alike."""
    rows = [p.row for p in samples]
    pairs = near_pairs([p.examined.looks for p in samples], [r.split for r in rows])
    return [
        {"keys": [rows[i].key, rows[j].key], "splits": [rows[i].split, rows[j].split], "bits": bits}
        for i, j, bits in pairs
        if rows[i].sha256 != rows[j].sha256
    ]


def _notes(
    resolved: ResolvedSource,
    layout: ShardLayout,
    duplicates: list[list[str]],
    near: list[dict[str, Any]],
    mask_values: Counter[int],
) -> list[str]:
    # Notes about the source quote file names, which opaque keys must not reveal.
    recipe = resolved.recipe
    notes = [] if recipe.opaque_keys else list(resolved.arranged.notes)
    if recipe.opaque_keys:
        notes += ungrouped_notes(recipe, [p.row.group for p in layout.samples])
    if recipe.opaque_keys or recipe.splits.make:
        notes += untrained_notes((p.row.split, p.sample.label) for p in layout.samples)
    if duplicates:
        more = sum(len(d) - 1 for d in duplicates)
        notes.append(f"{more} images are copies of another one with the same label and split")
    if near:
        shown = " and ".join(near[0]["keys"])
        notes.append(f"{len(near)} pairs of images in different splits look alike, such as {shown}")
    notes += _remark_notes(layout.samples, opaque=recipe.opaque_keys)
    highest = max(p.examined.highest for p in layout.samples)
    if 0 < highest < DARK:
        white = 2 ** highest.bit_length() - 1
        kinds = {rule for p in layout.samples for rule in p.examined.rules}
        window = f"{{integer: [0, {white}]}}" if "float" in kinds else f"[0, {white}]"
        notes.append(f"no 16-bit image goes above {highest}, and all come out dark: set `window: {window}` in a recipe")
    unsure = sum("mask orientation" in p.examined.rules for p in layout.samples)
    if unsure:
        notes.append(
            f"{unsure} masks of images with an EXIF orientation fit turned and not, and were turned with their images: "
            "say in a recipe `masks_turned: true` if they lie as the images are looked at, else `masks_turned: false`"
        )
    odd = sorted(set(mask_values) - {0, 255})
    if set(odd) - {INSIDE}:
        shown = ", ".join(map(str, odd[:8])) + (", ..." if len(odd) > 8 else "")
        notes.append(f"masks hold other values than 0 and 255: {shown}; pixels are kept from {INSIDE} up")
    if mask_values and max(mask_values) < INSIDE:
        notes.append(f"no mask reaches {INSIDE}, so that none keeps a pixel; map values with `mask_values` in a recipe")
    if len(layout.samples) > MOST and len(layout.splits) > 1:
        notes.append(f"look-alikes across splits were not looked for among more than {MOST:,} images")
    return notes


@cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries on which stored bytes may depend."""
    from importlib.metadata import PackageNotFoundError, version

    out = {}
    for name in ("medvq", "pillow", "simplejpeg", "numpy", "pyarrow"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "unknown"
    return out
