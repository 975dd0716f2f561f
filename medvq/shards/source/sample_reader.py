"""Combine what the path, the container and the tables say about an image: its label, split and group."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from medvq.config.recipe import Recipe
from medvq.errors import UsageError, suggest
from medvq.shards.source.base import SourceEntry
from medvq.shards.source.patterns import SPLIT_WORDS, compile_pattern, nfc, stem
from medvq.shards.source.tables import Told


@dataclass(frozen=True)
class Sample:
    """An image that is to enter the dataset."""

    path: str
    """Of its entry in the source."""
    size: int
    mtime: int
    id: str
    label: str | None = None
    split: str = "train"
    group: str | None = None
    mask: SourceEntry | None = None


class SampleReader:
    """Makes samples of entries, and remembers which classes and splits it met."""

    def __init__(self, recipe: Recipe, told: list[Told]) -> None:
        """Prepare to read samples by `recipe` and the rows `told` of its tables and lists."""
        self.told = told
        self.listed = set(recipe.splits.lists)
        self.known: dict[str, str | None] = {}
        self.aliases = {fold(k): v for k, v in recipe.aliases().items()}
        self.split_names = {**SPLIT_WORDS, **{_lower(k): v for k, v in recipe.splits.names.items()}}
        self.spellings: dict[str, str] = {}
        self.met: set[str] = set()
        """Splits of all samples, including bad ones."""
        self.folders: set[str] = set()
        """Names of splits in paths and in the container."""
        self.group = re.compile(recipe.group) if recipe.group else None
        self._patterns = [compile_pattern(p) for p in recipe.images]
        self._in_path = {field for field in ("split", "group") if any(f"{{{field}}}" in p for p in recipe.images)}

    def fields_of(self, entry: SourceEntry) -> dict[str, str] | None:
        """Return what the path and the container say about an image, with at least its `id`.

        If the recipe has patterns of paths, the first one that matches counts, and what it says replaces what the
        container says. Return None if none matches.
        """
        stated = {k: str(v) for k, v in (entry.fields or {}).items() if v is not None}
        if not self._patterns:
            return stated if "id" in stated else {**stated, "id": stem(entry.path)}
        found = next((m for p in self._patterns if (m := p.match(entry.path))), None)
        return None if found is None else {**stated, **found}

    def claim(self, path: str, fields: Mapping[str, str]) -> None:
        """Record that there is an image at `path`. Call this for all images before `sample` for any."""
        for table in self.told:
            table.claim(path, fields["id"])

    def sample(self, entry: SourceEntry, fields: Mapping[str, str]) -> tuple[Sample, str | None]:
        """Return the sample of an entry and, if it is bad, the reason.

        Args:
            entry: the image.
            fields: as of `fields_of`.
        """
        path = entry.path
        problem: str | None = None
        labels = [fields["class"]] if "class" in fields else []
        splits = [(self._teller("split"), fields["split"])] if "split" in fields else []
        groups = [(self._teller("group"), fields["group"])] if "group" in fields else []
        for table in self.told:
            said, trouble = table.about(path, fields["id"])
            problem = problem or trouble
            if said:
                labels += [said.label] if said.label is not None else []
                splits += [(table.table.file, said.split)] if said.split else []
                groups += [(table.table.file, said.group)] if said.group else []
        if "split" in fields:
            self.folders.add(fields["split"])
            # A list divides a folder that it does not name, such as `trainval`. A table may overrule a container, as
            # no pattern of the recipe could leave out the container's split.
            divided = self.listed and fields["split"] not in self.listed
            if (divided or "split" not in self._in_path) and len(splits) > 1:
                del splits[0]
        split = splits[-1][1] if splits else None
        if self.listed and split not in self.listed:
            problem = problem or "it is in no list of splits"
        if self.group:
            match = self.group.search(path)
            if match is None:
                problem = problem or f"the group pattern {self.group.pattern} does not match"
            else:
                others = [g for g in groups if g[0] != self._teller("group")]
                groups = [("its path", match.group(1)), *others]
        if len(splits) > 1:
            problem = problem or _disagreement("splits", [(where, self._split(name)) for where, name in splits])
        if len(groups) > 1:
            problem = problem or _disagreement("groups", [(where, _nfc(name)) for where, name in groups])
        meant = [self._class(name) for name in labels]
        if self.aliases and None in meant:
            name = labels[meant.index(None)]
            problem = problem or f"unknown class {name!r}" + (f" ({h})" if (h := suggest(name, self.aliases)) else "")
        elif len(set(meant)) > 1:
            problem = problem or "two labels: " + " and ".join(sorted({str(m) for m in meant}))
        label, group = meant[0] if meant else None, groups[-1][1] if groups else None
        sample = Sample(path, entry.size, entry.mtime, fields["id"], label, self._split(split), _nfc(group), entry.mask)
        self.met.add(sample.split)
        return sample, problem

    def _teller(self, field: str) -> str:
        return "its path" if field in self._in_path else "the source"

    def meaning(self, field: str, text: str) -> str:
        """Return the class or split that `text` is a spelling of; `text` itself for other fields."""
        if field == "split":
            return self._split(text)
        return (self._class(text) if field == "class" else None) or text

    def _class(self, name: str) -> str | None:
        if name not in self.known:
            self.known[name] = self.aliases.get(fold(name)) if self.aliases else _nfc(name)
        return self.known[name]

    def names(self) -> set[str]:
        """Return the names of splits as they are spelt in paths, in the container and in tables."""
        told = {said.split for table in self.told for said in table.rows.values() if said.split}
        return told.union(self.folders, self.spellings)

    def refuse_merged(self, splits: Collection[str]) -> None:
        """Raise UsageError if two splits of the source would become one of `splits`.

        Characters that cannot be part of a shard's name are replaced by `_`, so that different names may become equal.
        Names that are known to mean the same split may be merged.
        """
        for split in sorted(splits):
            names = sorted({nfc(n) for n, s in self.spellings.items() if s == split})
            known = [n for n in names if _lower(n) in self.split_names or n == split]
            if len(names) > max(1, len(known)):
                first = next(n for n in names if n not in known)
                raise UsageError(
                    f"the splits {' and '.join(names)} of the source would become one, called {split}",
                    hint=f"say what each means in a recipe, such as `splits: {{names: {{{first}: test}}}}`",
                )

    def _split(self, name: str | None) -> str:
        if name is None:
            return "train"
        if name not in self.spellings:
            plain = re.sub(r"[^A-Za-z0-9_-]", "_", nfc(name))
            self.spellings[name] = self.split_names.get(_lower(name)) or plain
        return self.spellings[name]


def _disagreement(what: str, told: list[tuple[str, str | None]]) -> str | None:
    if len({value for _, value in told}) == 1:
        return None
    return f"two {what}: " + " and ".join(f"{value} by {where}" for where, value in told)


def _lower(name: str) -> str:
    return nfc(name).lower()


def _nfc(text: str | None) -> str | None:
    return None if text is None else nfc(text)


def fold(text: str) -> str:
    """Return the form in which spellings of a class are compared: NFC, lower case, runs of blanks, `_`, `-` as `_`."""
    return re.sub(r"[\s_-]+", "_", nfc(text).casefold().strip())
