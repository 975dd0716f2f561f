"""Make splits that are group-disjoint, stratified and seeded, and find leaks between splits."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medvq.config.recipe import Made
from medvq.errors import UsageError

FEW = 10
"""If no class has so many samples, an empty split is a note and not an error: the source is a small trial."""


@dataclass(frozen=True)
class SplitMember:
    """What splitting needs to know about a sample."""

    content: str
    """sha256 of its bytes."""
    label: str | None
    group: str | None
    split: str


def make_splits(members: Sequence[SplitMember], make: Mapping[str, Made], seed: int) -> list[str]:
    """Return the split of each member after the splits in `make` are made.

    Samples of one group, or with the same bytes, stay together. Within that limit, each class gives the wanted share as
    closely as possible. A class of one sample stays in its split. Which samples move depends only on their content and
    `seed`.
    """
    out = [m.split for m in members]
    for source in sorted({m.of for m in make.values()}):
        wanted = {name: m.share for name, m in sorted(make.items()) if m.of == source}
        rows = [i for i, m in enumerate(members) if m.split == source]
        for together, name in _dealt([members[i] for i in rows], source, wanted, seed):
            for k in together:
                out[rows[k]] = name
    return out


def _dealt(
    members: list[SplitMember], source: str, wanted: Mapping[str, float], seed: int
) -> list[tuple[list[int], str]]:
    """Assign units of samples, largest first, each to the split that lacks most of the unit's classes."""
    counts = Counter(m.label for m in members)
    lacking = {name: {c: _rounded(n, wanted[name]) for c, n in counts.items()} for name in wanted}
    lacking[source] = {c: n - sum(lacking[name][c] for name in wanted) for c, n in counts.items()}
    units = []
    for together in _units(members):
        classes = Counter(members[k].label for k in together)
        first = min(members[k].content for k in together)
        drawn = hashlib.sha256(f"{seed}/{source}/{first}".encode()).hexdigest()
        units.append((-len(together), drawn, together, classes))
    units.sort(key=lambda u: u[:2])
    dealt = []
    for _, _, together, classes in units:
        name = max(lacking, key=lambda s: sum(n * lacking[s][c] / counts[c] for c, n in classes.items()))
        for c, n in classes.items():
            lacking[name][c] -= n
        dealt.append((together, name))
    return dealt


def _rounded(n: int, share: float) -> int:
    return min(int(n * share + 0.5), n - 1)


def check_shares(make: Mapping[str, Made], rows: Iterable[tuple[str, str | None]]) -> list[str]:
    """Return notes about splits that stay empty because all classes are small.

    Args:
        make: the splits to make.
        rows: split and label of every sample.

    Raises:
        UsageError: a share is too small to take a sample of any class, although one class is not small.
    """
    counts: dict[str, Counter[str | None]] = defaultdict(Counter)
    for split, label in rows if make else ():
        counts[split][label] += 1
    notes = []
    for name, made in make.items():
        most = max(counts[made.of].values(), default=0)
        if most == 0 or _rounded(most, made.share) > 0:
            continue
        if most >= FEW:
            raise UsageError(
                f"the split {name} would be empty: {made.share:g} of {made.of} is no sample of any class",
                hint=f"give a share of {_least_share(most):g} or more",
            )
        notes.append(f"the split {name} stays empty: the largest class of {made.of} has only {most}")
    return notes


def _least_share(n: int) -> float:
    """Return the smallest share, rounded up to two digits, that takes one of `n` samples."""
    scale: int = 10 ** (1 - math.floor(math.log10(0.5 / n)))
    return math.ceil(0.5 / n * scale) / scale


def refuse_empty(make: Mapping[str, Made], members: Sequence[SplitMember], splits: Sequence[str], seed: int) -> None:
    """Check that every split that was made got a sample.

    Args:
        make: the splits to make.
        members: every sample that is packed, with the split that it had before.
        splits: the split of each after `make_splits`.
        seed: as of `make_splits`.

    Raises:
        UsageError: a split got no sample, and the reason is not that all classes are small.
    """
    check_shares(make, [(m.split, m.label) for m in members])
    got = {split for split, m in zip(splits, members, strict=True) if split != m.split}
    for name, made in make.items():
        taken = [m for m in members if m.split == made.of]
        most = max(Counter(m.label for m in taken).values(), default=0)
        if name in got or (most and not _rounded(most, made.share)):
            continue
        units = len(_units(taken))
        if units < 2:
            what = f"group {taken[0].group}" if taken and taken[0].group is not None else "image and its copies"
            hint = f"all {len(taken)} samples of {made.of} are one {what}, which stays together: it cannot be divided"
        else:
            hint = f"its {len(taken)} samples are {units} groups, which stay together: " + _share_that_works(
                make, name, members, seed
            )
        raise UsageError(
            f"the split {name} came out empty: nothing of {made.of} fits its share of {made.share:g}", hint=hint
        )


def _share_that_works(make: Mapping[str, Made], name: str, members: Sequence[SplitMember], seed: int) -> str:
    """Return a hint with the smallest share, in steps of 0.05, with which the split `name` is not empty."""
    made = make[name]
    others = sum(m.share for n, m in make.items() if n != name and m.of == made.of)
    for step in range(int(made.share * 20) + 1, 20):
        share = step / 20
        if share + others < 1:
            tried = {**make, name: made.model_copy(update={"share": share})}
            if name in make_splits(members, tried, seed):
                return f"give a share of {share:g}"
    return "no share divides them: make fewer splits"


def _units(members: Sequence[SplitMember]) -> list[list[int]]:
    """Return the positions of members that must stay together, as they share a group or their content."""
    parent = list(range(len(members)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, m in enumerate(members):
        for key in [("bytes", m.content), *([("group", m.group)] if m.group is not None else [])]:
            parent[root(i)] = root(first.setdefault(key, i))
    units: dict[int, list[int]] = defaultdict(list)
    for i in range(len(members)):
        units[root(i)].append(i)
    return list(units.values())


def find_leaks(members: Sequence[SplitMember], paths: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return what was checked (bytes, group), and each group or content that is in more than one split."""
    checked = ["bytes"]
    if any(m.group is not None for m in members):
        checked.append("group")
    found = []
    for kind in checked:
        by_value: dict[str, list[int]] = defaultdict(list)
        for i, m in enumerate(members):
            value = m.content if kind == "bytes" else m.group
            if value is not None:
                by_value[value].append(i)
        for value, rows in sorted((v, rows) for v, rows in by_value.items() if len(rows) > 1):
            splits = sorted({members[i].split for i in rows})
            if len(splits) > 1:
                found.append(
                    {"kind": kind, "value": value, "splits": splits, "samples": sorted(paths[i] for i in rows)}
                )
    return checked, found
