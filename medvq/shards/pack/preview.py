"""Describe how a source was understood: the text of `medvq shard --dry-run`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvq.config.recipe import Recipe
from medvq.shards.dataset.manifest import split_order
from medvq.shards.source.base import Left
from medvq.shards.source.resolve import ResolvedSource, read_source
from medvq.shards.source.samples import Arranged, Sample
from medvq.shards.source.scan import printable

SHOWN = 5
"""Number of examples shown of a list."""


def explain(source: Path, recipe: Recipe | None = None) -> str:
    """Return what would be packed and how, as text; nothing is decoded or written.

    Raises:
        NotFoundError, UsageError: as `read_source`.
    """
    return text_of(read_source(source, recipe))


def facts_of_source(source: Path, recipe: Recipe | None = None) -> dict[str, Any]:
    """Return what would be packed and how, as plain values and as `text`; nothing is decoded or written.

    The values are {text, name, layout, images, masks, tables, classes, seen, samples, splits: {name: {samples, masks,
    groups, classes}}, bad: [{path, reason}], ignored: [{path, reason}], guesses, notes, make}. `make` holds the splits
    that packing will make.

    Raises:
        NotFoundError, UsageError: as `read_source`.
    """
    resolved = read_source(source, recipe)
    recipe, arranged = resolved.recipe, resolved.arranged
    return {
        "text": text_of(resolved),
        "name": recipe.name,
        "layout": resolved.layout,
        "images": recipe.images,
        "masks": recipe.masks,
        "tables": [t.file for t in recipe.tables],
        "classes": arranged.classes,
        "seen": resolved.seen,
        "samples": len(arranged.samples),
        "splits": _splits(arranged),
        "make": {name: {"of": made.of, "share": made.share} for name, made in recipe.splits.make.items()},
        "bad": [{"path": printable(r.path), "reason": r.reason} for r in arranged.bad],
        "ignored": [{"path": printable(r.path), "reason": r.reason} for r in arranged.ignored],
        "guesses": [asdict(g) for g in arranged.guesses],
        "notes": arranged.notes,
    }


def _splits(arranged: Arranged) -> dict[str, dict[str, Any]]:
    by_split: dict[str, list[Sample]] = defaultdict(list)
    for s in arranged.samples:
        by_split[s.split].append(s)
    out: dict[str, dict[str, Any]] = {}
    for split in split_order(by_split):
        rows = by_split[split]
        counts = Counter(s.label for s in rows)
        out[split] = {
            "samples": len(rows),
            "masks": sum(s.mask is not None for s in rows),
            "groups": len({s.group for s in rows} - {None}) or None,
            "classes": {name: counts[name] for name in arranged.classes},
        }
    return out


def text_of(resolved: ResolvedSource) -> str:
    """Return text on layout, splits, classes, masks, groups, conversions, and entries that will be left out."""
    recipe, arranged = resolved.recipe, resolved.arranged
    lines = [f"name       {recipe.name}", f"layout     {resolved.layout}"]
    lines += [f"images     {pattern}" for pattern in recipe.images]
    lines += [f"masks      {recipe.masks}"] if recipe.masks else []
    lines += [f"table      {t.file}: {_columns(t.model_dump())}" for t in recipe.tables]
    lines.append(f"files      {resolved.seen} seen: {len(arranged.samples)} samples, {len(arranged.bad)} bad, "
                 f"{len(arranged.ignored)} ignored")  # fmt: skip
    for split, found in _splits(arranged).items():
        extra = "".join(f", {found[what]} {what}" for what in ("masks", "groups") if found[what])
        lines.append(f"split      {split}: {found['samples']} samples{extra}")
        lines += [f"             {name}: {n}" for name, n in found["classes"].items()]
    for name, made in recipe.splits.make.items():
        how = f"stratified by class, groups and copies together, seed {recipe.splits.seed}"
        lines.append(f"make       {name}: {made.share:.4g} of {made.of}, {how}")
    lines.append(f"pixels     {_pixels(resolved)}")
    lines += _examples("bad", arranged.bad)
    lines += _examples("ignored", arranged.ignored)
    lines += [f"guessed    {g.what}: {g.choice} ({g.evidence})" for g in arranged.guesses]
    lines += [f"note       {note}" for note in arranged.notes]
    return "\n".join(lines)


def _columns(table: dict[str, object]) -> str:
    said = {k: table[k] for k in ("id", "label", "one_hot", "group", "split") if table[k]}
    return ", ".join(f"{k} from {', '.join(v) if isinstance(v, list) else v}" for k, v in said.items())


def _pixels(resolved: ResolvedSource) -> str:
    recipe = resolved.recipe
    steps = [f"centre {recipe.crop[0]}x{recipe.crop[1]}"] if recipe.crop else []
    steps += [f"{recipe.fit} to {recipe.size[0]}x{recipe.size[1]} (height x width)"] if recipe.size else []
    steps += [{1: "grey", 3: "RGB"}[recipe.channels]] if recipe.channels else []
    kept = "bytes are kept if nothing changes, else PNG" if recipe.store == "auto" else f"stored as {recipe.store}"
    return ", ".join([*steps, kept])


def _examples(what: str, rows: Sequence[Left]) -> list[str]:
    lines = [f"{what:<10} {printable(r.path)}: {r.reason}" for r in rows[:SHOWN]]
    return lines + ([f"{what:<10} ... and {len(rows) - SHOWN} more: --json has all"] if len(rows) > SHOWN else [])
