"""What a recipe asks for and the source has not, such as a misspelt split, masks, or a group of every image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches

from medvq.config.recipe import Recipe, Splits
from medvq.errors import UsageError, suggest
from medvq.shards.source.patterns import compile_pattern, nfc

SHOWN = 8
"""Names that a note lists."""


def refuse_unknown_splits(splits: Splits, found: Collection[str], names: Collection[str]) -> None:
    """Nothing, where the source has every split that the recipe speaks of.

    Args:
        splits: what the recipe says.
        found: the splits of the source.
        names: what paths and tables call them.

    Raises:
        UsageError: the recipe renames, keeps or divides a split that is not there.
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
    """Nothing, where some of the image files `paths` is a mask by the recipe's pattern, or all are images by it.

    Raises:
        UsageError: some are neither, and may be the masks; names the one that comes nearest.
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
    """The first of `paths` in the folder that is most like that of `pattern`, whose fields may be anything."""
    *wanted, _ = pattern.split("/")

    def likeness(folder: str) -> float:
        parts = folder.split("/")
        filled = [part if "{" in want else want for want, part in zip(wanted, parts, strict=False)]
        return SequenceMatcher(None, "/".join([*filled, *wanted[len(parts) :]]), folder).ratio()

    best = max(sorted({p.rpartition("/")[0] for p in paths}), key=likeness)
    return min(p for p in paths if p.rpartition("/")[0] == best)


def ungrouped_notes(recipe: Recipe, groups: Sequence[str | None]) -> list[str]:
    """How many samples have no group, where the recipe or a table tells groups; `groups` are those of all samples."""
    asked = recipe.group or recipe.metadata.get("group") or any(t.group for t in recipe.tables)
    asked = asked or any("{group}" in p for p in recipe.images)
    without = groups.count(None)
    if not (asked and without):
        return []
    return [f"{without} of {len(groups)} samples have no group, so that no leak is seen between splits by them"]


def untrained_notes(rows: Iterable[tuple[str, str | None]]) -> list[str]:
    """Classes that are in other splits but not in train, if there is one; `rows` are split and label of all samples."""
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
