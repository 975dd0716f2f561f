"""Find the mask of each image by name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from functools import cache

from medvq.config.recipe import Recipe
from medvq.shards.source.base import SourceEntry
from medvq.shards.source.patterns import compile_pattern, nfc

Key = tuple[str, ...]


class Masks:
    """The masks of a source, found by the id and by the fields that the patterns of images and masks share.

    Call `claim` for all images before `of` for any: if several images have the same stem, the whole file name decides.
    """

    def __init__(self, entries: list[SourceEntry], recipe: Recipe, meaning: Callable[[str, str], str]) -> None:
        self._recipe, self._meaning = recipe, meaning
        self._masks: dict[Key, list[SourceEntry]] = defaultdict(list)
        self._claims: dict[Key, list[str]] = defaultdict(list)
        self.rest: list[SourceEntry] = []
        """Entries that are not masks."""
        pattern = compile_pattern(recipe.masks) if recipe.masks else None
        for entry in entries:
            fields = pattern.match(entry.path) if pattern else None
            if fields is None:
                self.rest.append(entry)
            else:
                self._masks[self._key(fields)].append(entry)

    def claim(self, path: str, fields: dict[str, str]) -> None:
        """Record that there is an image at `path` with these fields, which may have a mask."""
        if self._masks and (key := self._key(fields)) in self._masks:
            self._claims[key].append(path)

    def of(self, path: str, fields: dict[str, str]) -> tuple[SourceEntry | None, str | None]:
        """Return the mask of an image, None if it has none, and why it is not clear, if so."""
        key = self._key(fields) if self._claims else ()
        images = self._claims.get(key, [])
        found = self._masks[key] if images else []
        if len(images) > 1:
            names, mine = [_name(p) for p in images], _name(path)
            others = [e for e in found if _name(e.path) not in names]
            whole = {_name(e.path) for e in found} >= set(names)
            found = [e for e in found if _name(e.path) == mine]
            doubtful = found if names.count(mine) > 1 else []
            if others and (whole or not found):
                doubtful = others
            if doubtful:
                which, what = " or ".join(images), ", ".join(e.path for e in doubtful)
                return None, f"whether {what} is the mask of {which} cannot be told by name"
        if len(found) > 1:
            return None, "it has several masks: " + ", ".join(e.path for e in found)
        return (found[0] if found else None), None

    def orphans(self) -> list[SourceEntry]:
        """Return the masks that no image has claimed."""
        return [e for key, entries in self._masks.items() if key not in self._claims for e in entries]

    def _key(self, fields: dict[str, str]) -> Key:
        if self._recipe.masks is None:
            return ()
        shared = _shared_fields(self._recipe.masks, *self._recipe.images)
        return (nfc(fields["id"]), *(self._meaning(k, fields[k]) for k in shared))


def _name(path: str) -> str:
    return nfc(path.rsplit("/", 1)[-1])


@cache
def _shared_fields(*patterns: str) -> list[str]:
    fields = [set(re.findall(r"\{(\w+)\}", p)) for p in patterns]
    return sorted(set.intersection(*fields) - {"ext", "name", "id"})
