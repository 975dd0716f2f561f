"""What a recipe asks for and the source has not, such as a split or masks that are misspelt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import SequenceMatcher

from medvq.config.errors import UsageError, nearest
from medvq.config.recipe import Recipe, Splits
from medvq.shards.patterns import compile_pattern, nfc


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
            f"the recipe {what} of the source", hint=nearest(name, known) if known else "it names no split"
        )


def refuse_idle_masks(recipe: Recipe, paths: Sequence[str]) -> None:
    """Nothing, where some of the image files `paths` is a mask by the recipe's pattern.

    Raises:
        UsageError: none is; names the file that comes nearest.
    """
    if recipe.masks is None:
        return
    pattern, images = compile_pattern(recipe.masks), [compile_pattern(p) for p in recipe.images]
    if any(pattern.match(p) for p in paths):
        return
    left = [p for p in paths if not any(i.match(p) for i in images)]
    raise UsageError(
        f"no file is a mask by the recipe's pattern {recipe.masks}",
        hint=f"the nearest is {_nearest_path(recipe.masks, left or paths)}; leave `masks` out where there are none",
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
