"""Combine what the path, the container and the tables say about an image: its label, split and group."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from medvq.config.recipe import Recipe
from medvq.errors import UsageError, suggest
from medvq.shards.source.alike import fold, group_key, visible
from medvq.shards.source.base import SourceEntry
from medvq.shards.source.patterns import SPLIT_WORDS, compile_pattern, nfc, stem
from medvq.shards.source.tables import Told, quoted

SHOWN = 8
"""Number of classes that a message names."""


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
        self.exact = {nfc(k): v for k, v in recipe.aliases().items()}
        self.aliases: dict[str, set[str]] = {}
        for spelling, name in recipe.aliases().items():
            self.aliases.setdefault(fold(spelling), set()).add(name)
        self.unknown: dict[str, list[str]] = {}
        """Labels that are no class of the recipe, and their images."""
        self.dropped = {nfc(name) for name in recipe.drop_classes}
        self.split_names = {**SPLIT_WORDS, **{_lower(k): v for k, v in recipe.splits.names.items()}}
        self.spellings: dict[str, str] = {}
        self.met: set[str] = set()
        """Splits of all samples, including bad ones."""
        self.folders: set[str] = set()
        """Names of splits in paths and in the container."""
        self.group = re.compile(recipe.group) if recipe.group else None
        self.unite = recipe.unite_groups
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
            problem = problem or _disagreement("groups", [(where, self._group(name)) for where, name in groups])
        meant = [self._class(name) for name in labels]
        if self.aliases and None in meant:
            name = labels[meant.index(None)]
            problem = problem or f"unknown class {name!r}" + (f" ({h})" if (h := suggest(name, self.exact)) else "")
            parts = [part for part in re.split(r"[,;|/+]", name) if part.strip()]
            several = len(parts) > 1 and all(self._class(part) for part in parts)
            # A number of the container without a name may mean that there is no label.
            if (
                not several
                and nfc(name) not in self.dropped
                and not (name in (entry.fields or {}).values() and _is_number(name))
            ):
                self.unknown.setdefault(name, []).append(path)
        elif len(set(meant)) > 1:
            problem = problem or "two labels: " + " and ".join(sorted({str(m) for m in meant}))
        label, group = meant[0] if meant else None, groups[-1][1] if groups else None
        sample = Sample(path, entry.size, entry.mtime, fields["id"], label, self._split(split), _nfc(group), entry.mask)
        self.met.add(sample.split)
        return sample, problem

    def _group(self, name: str) -> str:
        return group_key(name) if self.unite else nfc(name)

    def _teller(self, field: str) -> str:
        return "its path" if field in self._in_path else "the source"

    def meaning(self, field: str, text: str) -> str:
        """Return the class or split that `text` is a spelling of; `text` itself for other fields."""
        if field == "split":
            return self._split(text)
        return (self._class(text) if field == "class" else None) or text

    def _class(self, name: str) -> str | None:
        if name not in self.known:
            found = {self.exact[nfc(name)]} if nfc(name) in self.exact else self.aliases.get(fold(name), set())
            self.known[name] = (next(iter(found)) if len(found) == 1 else None) if self.aliases else _nfc(name)
        return self.known[name]

    def drops(self, entry: SourceEntry, fields: Mapping[str, str]) -> str | None:
        """Return the class of an image if the recipe drops it, by its exact spelling; else None."""
        if not self.dropped:
            return None
        told = (table.about(entry.path, fields["id"])[0] for table in self.told)
        labels = [fields.get("class"), *(said.label for said in told if said)]
        return next((name for name in labels if name is not None and nfc(name) in self.dropped), None)

    def refuse_unknown_classes(self) -> None:
        """Raise UsageError if the source has classes that the recipe does not name, or that fit two of its classes."""
        if not self.unknown:
            return
        shown = []
        for name, paths in sorted(self.unknown.items())[:SHOWN]:
            several = sorted(self.aliases.get(fold(name), ()))
            hint = f"is it {' or '.join(several)}?" if several else suggest(name, self.exact) or ""
            shown.append(f"{quoted(name)} ({len(paths)} images, such as {paths[0]}" + (f"; {hint})" if hint else ")"))
        more = len(self.unknown) - SHOWN
        names = ", ".join(quoted(name) for name in sorted(self.unknown))
        raise UsageError(
            f"the recipe's classes lack {len(self.unknown)} classes of the source: {', '.join(shown)}"
            + (f" and {more} more" if more > 0 else ""),
            hint="add them to `classes`, each as a class or as another spelling of one, or leave their images out:\n"
            f"    drop_classes: [{names}]",
        )

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
                    hint=f"say what each means in a recipe, such as `splits: {{names: {{{quoted(first)}: test}}}}`",
                )

    def _split(self, name: str | None) -> str:
        if name is None:
            return "train"
        if name not in self.spellings:
            plain = re.sub(r"[^A-Za-z0-9_-]", "_", visible(name).strip())
            self.spellings[name] = self.split_names.get(_lower(name)) or plain
        return self.spellings[name]


def _disagreement(what: str, told: list[tuple[str, str | None]]) -> str | None:
    if len({value for _, value in told}) == 1:
        return None
    return f"two {what}: " + " and ".join(f"{value} by {where}" for where, value in told)


def _lower(name: str) -> str:
    return visible(name).strip().lower()


def _is_number(name: str) -> bool:
    return name.lstrip("-").isdecimal()


def _nfc(text: str | None) -> str | None:
    return None if text is None else nfc(text)
