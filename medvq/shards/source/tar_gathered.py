"""What was read of all tar shards before classes and groups are settled, and notes about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from medvq.config.recipe import Recipe
from medvq.shards.source.guess_columns import GROUPS, LABELS
from medvq.shards.source.shard_files import split_of_shard
from medvq.shards.source.tar_index import TarMember


@dataclass(slots=True)
class GatheredSample:
    """A key with an image, and what it states."""

    shard: int
    key: str
    images: list[TarMember]
    mask: TarMember | None
    problem: str | None
    number: int | None
    name: str | None
    split: str | None
    id: str | None
    groups: dict[str, str]
    """Values of `group` and `patient` of its JSON, or of the key that the recipe names."""


@dataclass
class Gathered:
    """What was met in all shards."""

    samples: list[GatheredSample] = field(default_factory=list)
    keys: Counter[str] = field(default_factory=Counter)
    """Keys of the samples' JSON."""
    unread: Counter[str] = field(default_factory=Counter)
    """Suffixes of members that are not read."""
    paths: list[str] = field(default_factory=list)
    """All members, if the recipe ignores some."""


def groups_differ(samples: Iterable[GatheredSample]) -> bool:
    """Return whether the keys of some sample's JSON that may tell its group have different values."""
    return any(len(set(s.groups.values())) > 1 for s in samples)


def notes_of(found: Gathered, recipe: Recipe, grouped: bool, shards: list[str]) -> list[str]:
    """Return what a person should know: members that are not read, and keys that may tell more."""
    notes = []
    if found.unread:
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in found.unread.most_common(6))
        notes.append(f"members of samples that are not read: {kinds}")
    if not grouped:
        notes.append(
            "group and patient in the samples' JSON differ, and none is taken as the group: name one in a recipe, "
            "`metadata: {group: patient}`"
        )
    elif "group" not in recipe.metadata and not any(s.groups for s in found.samples):
        notes += _likely("group", [key for key in found.keys if key.lower() in GROUPS])
    if "class" not in recipe.metadata and not any(s.number is not None or s.name for s in found.samples):
        notes += _likely("class", [key for key in found.keys if key.lower() in LABELS])
        if not recipe.images and any("/" in s.key for s in found.samples):
            notes.append(
                "no sample has a label; if folders within the shards are classes, say so in a recipe: "
                '`images: "{*}.tar/{class}/{name}"`'
            )
    named = {split_of_shard(name) for name in shards}
    if None in named and len(named) > 1 and "split" not in recipe.metadata:
        unnamed = [name for name in shards if split_of_shard(name) is None]
        notes.append(f"{len(unnamed)} shards name no split ({unnamed[0]}); without `split` in the JSON they are train")
    return notes


def _likely(field: str, keys: list[str]) -> list[str]:
    if not keys:
        return []
    return [
        f"the samples' JSON has {keys[0]}; if it is the {field}, say so in a recipe: `metadata: {{{field}: {keys[0]}}}`"
    ]
