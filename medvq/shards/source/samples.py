"""From files to samples: which image, which label, split, group and mask, and what cannot be one."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from medvq.config.recipe import Recipe
from medvq.errors import UsageError, suggest
from medvq.shards.sampling.split import check_shares
from medvq.shards.source.checks import refuse_unknown_splits, ungrouped_notes, untrained_notes
from medvq.shards.source.detect import SPLIT_WORDS
from medvq.shards.source.masks import Masks
from medvq.shards.source.patterns import compile_pattern, nfc
from medvq.shards.source.scan import Left, Scan, SourceEntry
from medvq.shards.source.tables import Told, read_list, read_table

MOST_CLASSES = 32767
"""Labels are stored in 16 bits."""


@dataclass(frozen=True)
class Sample:
    """An image that is to enter the dataset."""

    path: str
    """Relative to the source; of an `.npz`, the array and the row."""
    size: int
    mtime: int
    id: str
    label: str | None = None
    split: str = "train"
    group: str | None = None
    mask: SourceEntry | None = None


@dataclass
class Released:
    """A released smaller training set: copies of some training images."""

    percent: float
    paths: list[str]


@dataclass
class Arranged:
    """What the source turned out to hold. Samples, bad and ignored are sorted by path."""

    samples: list[Sample] = field(default_factory=list)
    bad: list[Left] = field(default_factory=list)
    """Images that cannot enter, and why."""
    ignored: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    released: list[Released] = field(default_factory=list)
    """Released smaller training sets, smallest first."""
    classes: list[str] = field(default_factory=list)
    """Class names in label order; empty where nothing is labelled."""


def arrange(found: Scan, recipe: Recipe, source: Path, *, strict: bool = True) -> Arranged:
    """Sort the files of a source into samples by the recipe's patterns and tables.

    `strict`: an image that fits no pattern is a bad sample (the layout was detected); else it is ignored (the
    recipe's patterns choose).

    Raises:
        UsageError: class folders differ only in case, or a split of the recipe is unknown or would stay empty.
        NotFoundError, DataError, UsageError: of a table.
    """
    out = Arranged(bad=list(found.bad), ignored=list(found.ignored), notes=list(found.notes))
    told = [read_table(t, source) for t in recipe.tables]
    told += [read_list(split, file, source) for split, file in recipe.splits.lists.items()]
    tables = {_inside(t.table.file) for t in told}
    out.ignored += [Left(e.path, "not an image") for e in found.others if e.path not in tables]
    reader = SampleReader(recipe, told)
    masks = Masks(found.images, recipe, reader.meaning)
    out.released, rest = _take_released(masks.rest, recipe)
    for released in out.released:
        out.ignored += [Left(p, f"a copy in the released {released.percent:g} % set") for p in released.paths]
    fitting: Iterable[Fitting] = _fitting(rest, recipe, out.bad if strict else out.ignored)
    if recipe.masks or told:
        fitting = list(fitting)
        for entry, fields in fitting:
            masks.claim(entry.path, fields)
            reader.claim(entry.path, fields)
    for entry, fields in fitting:
        sample, problem = reader.sample(entry.path, entry.size, entry.mtime, fields)
        mask, trouble = masks.of(entry.path, fields)
        if problem or trouble:
            out.bad.append(Left(entry.path, problem or trouble or ""))
        elif recipe.splits.keep is not None and sample.split not in recipe.splits.keep:
            out.ignored.append(Left(entry.path, f"the recipe keeps no split {sample.split}"))
        else:
            out.samples.append(replace(sample, mask=mask) if mask else sample)
    out.ignored += [Left(e.path, "a mask without an image") for e in masks.orphans()]
    reader.refuse_merged({s.split for s in out.samples})
    if strict and recipe.masks is None:
        _note_twins(out)
    _finish_labels(out, recipe)
    finish_splits(out, recipe, reader)
    _note_unused_rows(out, told)
    for rows in (out.samples, out.bad, out.ignored):
        rows.sort(key=lambda r: r.path)
    return out


Fitting = tuple[SourceEntry, dict[str, str]]
"""An image and what its path says."""


def _fitting(entries: list[SourceEntry], recipe: Recipe, others: list[Left]) -> Iterator[Fitting]:
    """The images that fit a pattern, the first counts; those that fit none go to `others`."""
    patterns = [compile_pattern(p) for p in recipe.images]
    for entry in entries:
        fields = next((m for p in patterns if (m := p.match(entry.path))), None)
        if fields is None:
            others.append(Left(entry.path, "it does not fit the layout " + " or ".join(recipe.images)))
        else:
            yield entry, fields


def _inside(file: str) -> str:
    return file.removeprefix("./")


def _take_released(entries: list[SourceEntry], recipe: Recipe) -> tuple[list[Released], list[SourceEntry]]:
    patterns = [(s.percent, compile_pattern(s.images)) for s in sorted(recipe.subset_from, key=lambda s: s.percent)]
    released = [Released(percent, []) for percent, _ in patterns]
    rest = []
    for entry in entries:
        n = next((n for n, (_, p) in enumerate(patterns) if p.match(entry.path)), None)
        if n is None:
            rest.append(entry)
        else:
            released[n].paths.append(entry.path)
    return released, rest


class SampleReader:
    """Puts together what path and tables say of an image."""

    def __init__(self, recipe: Recipe, told: list[Told], *, overrule: bool = False) -> None:
        """`overrule`: tables may put an image in another split than its path, which no pattern can leave out."""
        self.told, self.overrule = told, overrule
        self.listed = set(recipe.splits.lists)
        self.known: dict[str, str | None] = {}
        self.aliases = {_fold(k): v for k, v in recipe.aliases().items()}
        self.split_names = {**SPLIT_WORDS, **{_lower(k): v for k, v in recipe.splits.names.items()}}
        self.spellings: dict[str, str] = {}
        self.met: set[str] = set()
        """Splits of the samples, bad ones too."""
        self.folders: set[str] = set()
        """What paths call splits."""
        self.group = re.compile(recipe.group) if recipe.group else None

    def claim(self, path: str, fields: dict[str, str]) -> None:
        """Note that there is an image at `path`, before `sample` is asked of any."""
        for table in self.told:
            table.claim(path, fields["id"])

    def sample(self, path: str, size: int, mtime: int, fields: dict[str, str]) -> tuple[Sample, str | None]:
        """The sample at `path`, whose pattern gave `fields`, and what is wrong with it."""
        problem: str | None = None
        labels = [fields["class"]] if "class" in fields else []
        splits = [("its path", fields["split"])] if "split" in fields else []
        groups = [("its path", fields["group"])] if "group" in fields else []
        for table in self.told:
            said, trouble = table.about(path, fields["id"])
            problem = problem or trouble
            if said:
                labels += [said.label] if said.label is not None else []
                splits += [(table.table.file, said.split)] if said.split else []
                groups += [(table.table.file, said.group)] if said.group else []
        divided = self.listed and fields.get("split") not in self.listed  # a folder such as `trainval`
        if "split" in fields:
            self.folders.add(fields["split"])
        if (divided or self.overrule) and "split" in fields and len(splits) > 1:
            del splits[0]
        split = splits[-1][1] if splits else None
        if self.listed and split not in self.listed:
            problem = problem or "it is in no list of splits"
        if self.group:
            match = self.group.search(path)
            if match is None:
                problem = problem or f"the group pattern {self.group.pattern} does not match"
            else:
                groups = [("its path", match.group(1)), *(g for g in groups if g[0] != "its path")]
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
        sample = Sample(path, size, mtime, fields["id"], label, self._split(split), _nfc(group))
        self.met.add(sample.split)
        return sample, problem

    def meaning(self, field: str, text: str) -> str:
        """What the text of a field of a path stands for, so that spellings of one class or split are one."""
        if field == "split":
            return self._split(text)
        return (self._class(text) if field == "class" else None) or text

    def _class(self, name: str) -> str | None:
        if name not in self.known:
            self.known[name] = self.aliases.get(_fold(name)) if self.aliases else _nfc(name)
        return self.known[name]

    def names(self) -> set[str]:
        """What the source calls its splits, in paths and in tables."""
        told = {said.split for table in self.told for said in table.rows.values() if said.split}
        return told.union(self.folders, self.spellings)

    def refuse_merged(self, splits: Collection[str]) -> None:
        """Nothing, where each of `splits` comes from one name of the source, or from names that mean the same.

        Raises:
            UsageError: two names became one, as what cannot stand in a shard's name was replaced.
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


def _fold(text: str) -> str:
    """The form in which spellings of a class are compared: NFC, no case, spaces as underscores."""
    return re.sub(r"[\s_-]+", "_", nfc(text).casefold().strip())


def _one_blank(text: str) -> str:
    """`text` without blanks around it and with one in place of several."""
    return " ".join(text.split())


def _quoted(name: str) -> str:
    """A name in an error or as YAML, in quotes where its blanks would not be seen."""
    return name if name == _one_blank(name) else repr(name)


def _note_twins(out: Arranged) -> None:
    """Say so where most images have a twin of the same name and another suffix: one of the two is often the mask."""
    stems = Counter(s.path.rpartition(".")[0] for s in out.samples)
    twins = sum(n > 1 for n in stems.values())
    if twins * 2 > len(stems):
        out.notes.append(
            f"{twins} images have a twin of the same name in the same folder; if these are masks, "
            'say so in a recipe: `images: "{id}.bmp"` and `masks: "{id}.png"`'
        )


def _finish_labels(out: Arranged, recipe: Recipe) -> None:
    """Fix the order of classes; an unlabelled image among labelled ones is bad.

    Raises:
        UsageError: two classes of the source differ only in case or in blanks, or there are too many.
    """
    labelled = {s.label for s in out.samples if s.label is not None}
    if labelled and any(s.label is None for s in out.samples):
        out.bad += [Left(s.path, "it has no label") for s in out.samples if s.label is None]
        out.samples = [s for s in out.samples if s.label is not None]
    by_fold: dict[str, list[str]] = defaultdict(list)
    for name in sorted(labelled):
        by_fold[_one_blank(name.casefold())].append(name)
    twins = [names for names in by_fold.values() if len(names) > 1]
    if twins:
        places = sorted({s.path.rpartition("/")[0] or "." for s in out.samples if s.label in twins[0]})
        more = f" and {len(places) - 4} more folders" if len(places) > 4 else ""
        first, second = map(_quoted, sorted(twins[0][-2:], key=lambda name: name == _one_blank(name)))
        blanks = " or in blanks" if any(name != _one_blank(name) for t in twins for name in t) else ""
        raise UsageError(
            f"classes that differ only in case{blanks}: " + "; ".join(" and ".join(map(_quoted, t)) for t in twins),
            where=", ".join(places[:4]) + more,
            hint=f"rename one, or say in a recipe that they are one class, `classes: {{{second}: [{first}], ...}}`; "
            "nothing was decoded yet, and bad files are listed once this is mended",
        )
    out.classes = (recipe.class_names() or sorted(labelled)) if labelled else []
    if len(out.classes) > MOST_CLASSES:
        raise UsageError(
            f"{len(out.classes)} classes are too many", hint="folders of patients or cases are `{group}`, not `{class}`"
        )
    out.notes += [f"class {name} has no image" for name in out.classes if name not in labelled]


def finish_splits(out: Arranged, recipe: Recipe, reader: SampleReader) -> None:
    """Check splits and groups against what the recipe says of them, once all samples are known.

    Raises:
        UsageError: one is unknown, or would stay empty.
    """
    refuse_unknown_splits(recipe.splits, reader.met, reader.names())
    rows = [(s.split, s.label) for s in out.samples]
    out.notes += check_shares(recipe.splits.make, rows)
    out.notes += ungrouped_notes(recipe, [s.group for s in out.samples])
    if not recipe.splits.make:
        out.notes += untrained_notes(rows)


def _note_unused_rows(out: Arranged, told: list[Told]) -> None:
    for table in told:
        unused = len(table.rows) - len(table.used)
        if unused:
            first = ", ".join([k for k in table.rows if k not in table.used][:3])
            out.notes.append(f"{unused} rows of {table.table.file} have no image here ({first}, ...)")
