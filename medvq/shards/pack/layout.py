"""Lay out examined samples in shards: splits, keys, ranks and order. Pure functions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from medvq.config.recipe import Recipe
from medvq.shards.dataset.index import Row
from medvq.shards.dataset.manifest import Leaks, split_order
from medvq.shards.pack.examine import PART, Examined
from medvq.shards.pack.keys import keys_of
from medvq.shards.sampling.split import SplitMember, find_leaks, make_splits, refuse_empty
from medvq.shards.sampling.subset import ranks, take
from medvq.shards.source.base import Left
from medvq.shards.source.samples import Sample

HEADERS = 4 * 1024
"""Approximate number of bytes that headers, padding, class and JSON of a sample add to a shard."""


@dataclass(frozen=True)
class PlacedSample:
    """A sample with its place: the part that examined it, and its row of the index."""

    sample: Sample
    examined: Examined
    place: int
    """Position in the list of samples that was examined."""
    row: Row

    @property
    def part(self) -> int:
        """Number of the part whose `.bin` holds the converted bytes."""
        return self.place // PART


@dataclass(frozen=True)
class Shard:
    """One shard to write."""

    file: str
    split: str
    members: list[PlacedSample]


@dataclass(frozen=True)
class ShardLayout:
    """The shards to write, and the samples that are left out."""

    shards: list[Shard]
    skipped: list[Left]
    leaks: Leaks

    @property
    def splits(self) -> set[str]:
        """Names of the splits."""
        return {s.split for s in self.shards}

    @property
    def samples(self) -> list[PlacedSample]:
        """All samples in the order of the shards."""
        return [p for s in self.shards for p in s.members]


def plan_layout(
    samples: Sequence[Sample],
    examined: Sequence[Examined],
    recipe: Recipe,
    classes: Sequence[str],
    *,
    on_leak: str = "fail",
    released: Sequence[tuple[float, Collection[str]]] = (),
) -> ShardLayout:
    """Return the layout of all samples that can enter the dataset.

    Args:
        samples: the samples, as arranged.
        examined: what is known of each sample.
        recipe: says which splits to make, how keys look, and how large shards get.
        classes: names in label order.
        on_leak: recorded in the layout only; the caller raises the error.
        released: smaller training sets that were released, as (percent, sha256 of the images).
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
    placed = [
        PlacedSample(samples[i], examined[i], i, _row(keys[k], members[k], groups[k], examined[i], classes))
        for k, i in enumerate(good)
    ]
    placed.sort(key=lambda p: p.row.key)
    _set_ranks(placed, released)
    shards = _shards(placed, recipe)
    if recipe.opaque_keys:
        found = [{**f, "value": "", "samples": [keys[paths.index(p)] for p in f["samples"]]} for f in found]
    return ShardLayout(
        shards,
        sorted(skipped, key=lambda s: s.path),
        Leaks(checked=checked, found=found, allowed=on_leak == "report"),
    )


def refuse_empty_splits(placed: Sequence[PlacedSample], recipe: Recipe) -> None:
    """Raise UsageError if a split that the recipe makes holds no sample."""
    members = [SplitMember(p.row.sha256, p.sample.label, p.sample.group, p.sample.split) for p in placed]
    refuse_empty(recipe.splits.make, members, [p.row.split for p in placed], recipe.splits.seed)


def _content(examined: Examined) -> str:
    assert examined.image is not None
    return examined.image.sha256


def _two_labels(good: list[int], samples: Sequence[Sample], examined: Sequence[Examined]) -> list[Left]:
    """Return the samples with the same bytes and different labels: as no label is known to be right, none enters."""
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


def _set_ranks(placed: list[PlacedSample], released: Sequence[tuple[float, Collection[str]]]) -> None:
    """Rank the training samples of each class. Samples of released smaller sets come first, the smallest set first."""
    train = [p for p in placed if p.row.split == "train"]
    drawn = ranks(
        [p.row.sha256 for p in train], [p.row.label for p in train], [p.examined.mask is not None for p in train]
    ).tolist()
    smallest = [next((n for n, (_, s) in enumerate(released) if p.row.sha256 in s), len(released)) for p in train]
    given: Counter[int] = Counter()
    for k in sorted(range(len(train)), key=lambda k: (smallest[k], drawn[k])):
        row = train[k].row
        row.rank = given[row.label]
        given[row.label] += 1


def released_notes(placed: Sequence[PlacedSample], released: Sequence[tuple[float, Collection[str]]]) -> list[str]:
    """Return a note for each released smaller set that differs from what our rule takes of the training split."""
    train = [p.row for p in placed if p.row.split == "train"]
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


def _shards(placed: list[PlacedSample], recipe: Recipe) -> list[Shard]:
    by_split: dict[str, list[PlacedSample]] = defaultdict(list)
    for p in placed:
        by_split[p.row.split].append(p)
    out: list[Shard] = []
    for split in split_order(by_split):
        for n, members in enumerate(_filled(by_split[split], recipe)):
            for p in members:
                p.row.shard = len(out)
            out.append(Shard(f"{split}-{n:06d}.tar", split, members))
    return out


def _filled(placed: list[PlacedSample], recipe: Recipe) -> list[list[PlacedSample]]:
    shards: list[list[PlacedSample]] = [[]]
    room = limit = recipe.shard_megabytes * 1_000_000
    for p in placed:
        need = HEADERS + sum(m.length for m in (p.examined.image, p.examined.mask) if m)
        if shards[-1] and (len(shards[-1]) >= recipe.shard_samples or need > room):
            shards.append([])
            room = limit
        shards[-1].append(p)
        room -= need
    return shards
