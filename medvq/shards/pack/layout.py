"""From examined samples to shards: splits, keys, ranks, order, digest. Pure: the same in, the same out."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medvq.config.recipe import Recipe
from medvq.keys import canonical_json
from medvq.shards.dataset.index import Row
from medvq.shards.dataset.manifest import FORMAT, Leaks, split_order
from medvq.shards.image.phash import near_pairs
from medvq.shards.pack.examine import PART, Examined
from medvq.shards.pack.keys import keys_of
from medvq.shards.sampling.split import SplitMember, find_leaks, make_splits, refuse_empty
from medvq.shards.sampling.subset import ranks, take
from medvq.shards.source.base import Left
from medvq.shards.source.samples import Sample

HEADERS = 4 * 1024
"""About what headers, padding, class and JSON of a sample add to a shard, in bytes."""


@dataclass(frozen=True)
class Planned:
    """A sample with its place: which part knows it, and its row of the index."""

    sample: Sample
    examined: Examined
    place: int
    """Position in the list of samples that was examined."""
    row: Row

    @property
    def part(self) -> int:
        """The part in whose `.bin` its converted bytes lie."""
        return self.place // PART


@dataclass(frozen=True)
class Shard:
    """One shard to write."""

    file: str
    split: str
    members: list[Planned]


@dataclass(frozen=True)
class ShardLayout:
    """What is to be written."""

    shards: list[Shard]
    skipped: list[Left]
    leaks: Leaks

    @property
    def splits(self) -> set[str]:
        """Names of the splits."""
        return {s.split for s in self.shards}

    @property
    def planned(self) -> list[Planned]:
        """All samples in the order of the shards."""
        return [p for s in self.shards for p in s.members]


def plan_pack(
    samples: Sequence[Sample],
    examined: Sequence[Examined],
    recipe: Recipe,
    classes: Sequence[str],
    *,
    on_leak: str = "fail",
    released: Sequence[tuple[float, Collection[str]]] = (),
) -> ShardLayout:
    """Order everything that can enter.

    Args:
        samples: as arranged.
        examined: what is known of each.
        recipe: splits to make, keys, sizes of shards.
        classes: names in label order.
        released: (percent, sha256 of its images) of released smaller training sets.
        on_leak: only noted in the plan; the caller refuses.
    """
    skipped = [Left(s.path, e.bad) for s, e in zip(samples, examined, strict=True) if e.bad]
    good = [i for i, e in enumerate(examined) if not e.bad]
    skipped += _two_labels(good, samples, examined)
    gone = {s.path for s in skipped}
    good = [i for i in good if samples[i].path not in gone]
    contents = [_content(examined[i]) for i in good]
    members = [
        SplitMember(c, samples[i].label, samples[i].group, samples[i].split)
        for i, c in zip(good, contents, strict=True)
    ]
    if recipe.splits.make:
        splits = make_splits(members, recipe.splits.make, recipe.splits.seed)
        members = [replace(m, split=s) for m, s in zip(members, splits, strict=True)]
    paths = [samples[i].path for i in good]
    checked, found = find_leaks(members, paths)
    keys = keys_of(paths, contents, opaque=recipe.opaque_keys)
    groups = _group_names([m.group for m in members], contents, opaque=recipe.opaque_keys)
    planned = [
        Planned(samples[i], examined[i], i, _row(keys[k], members[k], groups[k], examined[i], classes))
        for k, i in enumerate(good)
    ]
    planned.sort(key=lambda p: p.row.key)
    _set_ranks(planned, released)
    shards = _shards(planned, recipe)
    if recipe.opaque_keys:
        found = [{**f, "value": "", "samples": [keys[paths.index(p)] for p in f["samples"]]} for f in found]
    return ShardLayout(
        shards,
        sorted(skipped, key=lambda s: s.path),
        Leaks(checked=checked, found=found, allowed=on_leak == "report"),
    )


def refuse_empty_splits(planned: Sequence[Planned], recipe: Recipe) -> None:
    """Nothing, where each split that the recipe makes holds a sample.

    Raises:
        UsageError: one is empty.
    """
    refuse_empty(recipe.splits.make, [(p.sample.split, p.row.split, p.sample.label) for p in planned])


def _content(examined: Examined) -> str:
    assert examined.image is not None
    return examined.image.sha256


def _two_labels(good: list[int], samples: Sequence[Sample], examined: Sequence[Examined]) -> list[Left]:
    """The same bytes under two labels: which one is right cannot be told, so none enters."""
    by_content: dict[str, list[int]] = defaultdict(list)
    for i in good:
        by_content[_content(examined[i])].append(i)
    out = []
    for rows in by_content.values():
        if len({samples[i].label for i in rows}) > 1:
            for i in rows:
                others = ", ".join(f"{samples[k].path} ({samples[k].label})" for k in rows if k != i)
                out.append(Left(samples[i].path, f"the same bytes have another label: {others}"))
    return out


def _group_names(groups: list[str | None], contents: list[str], *, opaque: bool) -> list[str | None]:
    if not opaque:
        return groups
    first: dict[str, str] = {}
    for group, content in zip(groups, contents, strict=True):
        if group is not None:
            first[group] = min(content, first.get(group, content))
    return [None if g is None else first[g][:16] for g in groups]


def _row(key: str, member: SplitMember, group: str | None, e: Examined, classes: Sequence[str]) -> Row:
    return Row(
        key=key,
        split=member.split,
        label=-1 if member.label is None else classes.index(member.label),
        group=group,
        ext=e.ext,
        sha256=member.content,
        mask_sha256=e.mask.sha256 if e.mask else None,
        width=e.width,
        height=e.height,
    )


def _set_ranks(planned: list[Planned], released: Sequence[tuple[float, Collection[str]]]) -> None:
    """Rank the training samples of every class; released smaller sets come first, the smallest first of all."""
    train = [p for p in planned if p.row.split == "train"]
    drawn = ranks(
        [p.row.sha256 for p in train], [p.row.label for p in train], [p.examined.mask is not None for p in train]
    ).tolist()
    smallest = [next((n for n, (_, s) in enumerate(released) if p.row.sha256 in s), len(released)) for p in train]
    given: Counter[int] = Counter()
    for k in sorted(range(len(train)), key=lambda k: (smallest[k], drawn[k])):
        row = train[k].row
        row.rank = given[row.label]
        given[row.label] += 1


def released_notes(planned: Sequence[Planned], released: Sequence[tuple[float, Collection[str]]]) -> list[str]:
    """Where a released smaller set is not what our rule takes of the training split."""
    train = [p.row for p in planned if p.row.split == "train"]
    counts = Counter(r.label for r in train)
    notes = []
    for percent, contents in released:
        have = Counter(r.label for r in train if r.sha256 in contents)
        strangers = len(set(contents) - {r.sha256 for r in train})
        if strangers:
            notes.append(f"{strangers} images of the released {percent:g} % set are not in train")
        if have != Counter(take(counts, percent)):
            notes.append(
                f"the released {percent:g} % set has {have.total()} images of train, "
                f"floor({percent:g} % of each class) would be {sum(take(counts, percent).values())}"
            )
    return notes


def _shards(planned: list[Planned], recipe: Recipe) -> list[Shard]:
    by_split: dict[str, list[Planned]] = defaultdict(list)
    for p in planned:
        by_split[p.row.split].append(p)
    out: list[Shard] = []
    for split in split_order(by_split):
        for n, members in enumerate(_filled(by_split[split], recipe)):
            for p in members:
                p.row.shard = len(out)
            out.append(Shard(f"{split}-{n:06d}.tar", split, members))
    return out


def _filled(planned: list[Planned], recipe: Recipe) -> list[list[Planned]]:
    shards: list[list[Planned]] = [[]]
    room = limit = recipe.shard_megabytes * 1_000_000
    for p in planned:
        need = HEADERS + sum(m.length for m in (p.examined.image, p.examined.mask) if m)
        if shards[-1] and (len(shards[-1]) >= recipe.shard_samples or need > room):
            shards.append([])
            room = limit
        shards[-1].append(p)
        room -= need
    return shards


def duplicates_of(planned: Sequence[Planned]) -> list[list[str]]:
    """Keys of samples of one split with the same bytes."""
    by_content: dict[tuple[str, str], list[str]] = defaultdict(list)
    for p in planned:
        by_content[p.row.sha256, p.row.split].append(p.row.key)
    return sorted(keys for keys in by_content.values() if len(keys) > 1)


def near_of(planned: Sequence[Planned]) -> list[dict[str, Any]]:
    """Samples of different splits that look alike."""
    rows = [p.row for p in planned]
    pairs = near_pairs([p.examined.looks for p in planned], [r.split for r in rows])
    return [
        {"keys": [rows[i].key, rows[j].key], "splits": [rows[i].split, rows[j].split], "bits": bits}
        for i, j, bits in pairs
        if rows[i].sha256 != rows[j].sha256
    ]


def pixel_part(recipe: Recipe) -> dict[str, Any]:
    """What of the recipe changes stored pixels, in canonical form."""
    names = {"crop", "size", "fit", "channels", "background", "window", "mask_values", "masks_turned"}
    part = recipe.model_dump(mode="json", include=names, exclude_defaults=True)
    return {**part, "jpeg": recipe.quality} if recipe.store == "jpeg" else part


def digest_of(planned: Sequence[Planned], recipe: Recipe, classes: Sequence[str]) -> str:
    """The dataset's digest: of content, not of names of files, times, or versions of encoders.

    sha256 over the canonical JSON of [format, pixel part of the recipe, classes], then of one line per sample,
    sorted: [sha256, mask sha256, label, split, group, rank], where a group is named by the least sha256 in it.
    """
    least: dict[str, str] = {}
    for p in planned:
        if p.row.group is not None:
            least[p.row.group] = min(p.row.sha256, least.get(p.row.group, p.row.sha256))
    lines = [_line(p.row, least.get(p.row.group or "")) for p in planned]
    whole = hashlib.sha256(canonical_json([FORMAT, pixel_part(recipe), list(classes)]).encode())
    for line in sorted(lines):
        whole.update(b"\n" + line.encode())
    return whole.hexdigest()


def _line(row: Row, group: str | None) -> str:
    """The canonical JSON of one sample: `[sha256, mask sha256, label, split, group, rank]`."""
    mask, least = (f'"{text}"' if text else "null" for text in (row.mask_sha256, group))
    return f'["{row.sha256}",{mask},{row.label},"{row.split}",{least},{row.rank}]'
