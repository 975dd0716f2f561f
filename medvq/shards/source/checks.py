"""Check that the source has what the recipe asks for, such as splits, masks, and a group of every image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches

from medvq.config.recipe import Recipe, Splits
from medvq.errors import UsageError, suggest
from medvq.shards.source.patterns import compile_pattern, nfc

SHOWN = 8
"""Number of names that a note lists."""


def refuse_metadata(recipe: Recipe, what: str, where: str) -> None:
    """Raise UsageError if the recipe names keys of metadata of a container that has none.

    Args:
        recipe: the recipe.
        what: the container in words.
        where: its path.
    """
    if recipe.metadata:
        hint = "remove `metadata` from the recipe, and use `tables` or patterns"
        raise UsageError(f"{what} has no metadata, which the recipe names", where=where, hint=hint)


def refuse_unknown_splits(splits: Splits, found: Collection[str], names: Collection[str]) -> None:
    """Raise UsageError if the recipe renames, keeps or divides a split that the source does not have.

    Args:
        splits: what the recipe says.
        found: the splits of the source.
        names: their names as spelt in paths, tables and the container.
    """
    spelt = {nfc(n).lower() for n in names}
    kept = set(found) if splits.keep is None else set(found).intersection(splits.keep)
    asked = [(f"renames {n}, which is no split", n, names) for n in splits.names if nfc(n).lower() not in spelt]
    there = {*found, *splits.make}
    asked += [(f"keeps {n}, which is no split", n, there) for n in splits.keep or [] if n not in there]
    asked += [
        (f"makes {name} of {made.of}, which is no split" + (" that is kept" if made.of in found else ""), made.of, kept)
        for name, made in splits.make.items()
        if made.of not in kept
    ]
    if asked:
        what, name, known = asked[0]
        raise UsageError(
            f"the recipe {what} of the source", hint=suggest(name, known) if known else "it names no split"
        )


def refuse_idle_masks(recipe: Recipe, paths: Sequence[str]) -> None:
    """Raise UsageError if no file matches the recipe's pattern of masks although some files match no pattern of images.

    These may be the masks. The hint names the one whose path is nearest to the pattern.

    Args:
        recipe: the recipe.
        paths: all image files.
    """
    if recipe.masks is None:
        return
    pattern, images = compile_pattern(recipe.masks), [compile_pattern(p) for p in recipe.images]
    if any(pattern.match(p) for p in paths):
        return
    left = [p for p in paths if not any(i.match(p) for i in images)]
    if not left:
        return
    raise UsageError(
        f"no file is a mask by the recipe's pattern {recipe.masks}",
        hint=f"the nearest is {_nearest_path(recipe.masks, left)}; leave `masks` out where there are none",
    )


def _nearest_path(pattern: str, paths: Sequence[str]) -> str:
    """Return the first of `paths` in the folder whose path is most similar to that of `pattern`."""
    *wanted, _ = pattern.split("/")

    def likeness(folder: str) -> float:
        parts = folder.split("/")
        filled = [part if "{" in want else want for want, part in zip(wanted, parts, strict=False)]
        return SequenceMatcher(None, "/".join([*filled, *wanted[len(parts) :]]), folder).ratio()

    best = max(sorted({p.rpartition("/")[0] for p in paths}), key=likeness)
    return min(p for p in paths if p.rpartition("/")[0] == best)


def ungrouped_notes(recipe: Recipe, groups: Sequence[str | None]) -> list[str]:
    """Return a note on samples without a group, if the recipe asks for groups.

    Args:
        recipe: the recipe.
        groups: the groups of all samples.
    """
    asked = recipe.group or recipe.metadata.get("group") or any(t.group for t in recipe.tables)
    asked = asked or any("{group}" in p for p in recipe.images)
    without = groups.count(None)
    if not (asked and without):
        return []
    return [f"{without} of {len(groups)} samples have no group: a leak between splits cannot be seen by them"]


def untrained_notes(rows: Iterable[tuple[str, str | None]]) -> list[str]:
    """Return a note on classes that other splits have and the train split lacks, if there is a train split.

    Args:
        rows: split and label of all samples.
    """
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    trained = False
    for split, label in rows:
        trained = trained or split == "train"
        if label is not None:
            splits[label][split] += 1
    known = [c for c, n in splits.items() if n["train"]]
    odd = sorted(c for c, n in splits.items() if not n["train"])
    if not (trained and odd):
        return []
    shown = []
    for name in odd[:SHOWN]:
        near = get_close_matches(name, known, n=1)
        where = ", ".join(f"{n} in {split}" for split, n in sorted(splits[name].items()) if n)
        shown.append(f"{name} ({where}" + (f"; did you mean {near[0]}?)" if near else ")"))
    more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
    return [f"without a training sample: class {', '.join(shown)}{more}"]
