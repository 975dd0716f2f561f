"""Sort the entries of a source into samples: which image, which label, split, group and mask, and what is left out."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from medvq.config.recipe import Recipe
from medvq.errors import UsageError
from medvq.shards.sampling.split import check_shares
from medvq.shards.source.alike import look, one_blank, written_in_several_ways
from medvq.shards.source.base import Guess, Left, Listing, SourceEntry
from medvq.shards.source.checks import refuse_unknown_splits, ungrouped_notes, untrained_notes
from medvq.shards.source.masks import Masks
from medvq.shards.source.patterns import compile_pattern, nfc
from medvq.shards.source.sample_reader import Sample, SampleReader
from medvq.shards.source.tables import Told, quoted, read_list, read_table

__all__ = ["Arranged", "Released", "Sample", "arrange"]

MOST_CLASSES = 32767
"""Labels are stored in 16 bits."""


@dataclass
class Released:
    """A released smaller training set: copies of some training images."""

    percent: float
    paths: list[str]


@dataclass
class Arranged:
    """What a source holds, sorted into samples and what is left out."""

    samples: list[Sample] = field(default_factory=list)
    bad: list[Left] = field(default_factory=list)
    """Images that cannot become samples, and why."""
    ignored: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    guesses: list[Guess] = field(default_factory=list)
    """What was concluded from the source, and by which evidence."""
    released: list[Released] = field(default_factory=list)
    """Released smaller training sets, smallest first."""
    classes: list[str] = field(default_factory=list)
    """Class names in label order; empty if nothing is labelled."""


def arrange(found: Listing) -> Arranged:
    """Sort the entries of a source into samples, by the patterns and tables of its recipe.

    Raises:
        NotFoundError: a table does not exist.
        UsageError: two classes differ only in case, a split of the recipe is unknown or would stay empty, or a table
            lacks a column.
        DataError: a table cannot be read.
    """
    recipe = found.recipe
    out = Arranged(
        bad=list(found.bad), ignored=list(found.ignored), notes=list(found.notes), guesses=list(found.guesses)
    )
    told = [read_table(t, found.base) for t in recipe.tables]
    told += [read_list(split, file, found.base) for split, file in recipe.splits.lists.items()]
    tables = {_inside(t.table.file) for t in told}
    out.ignored += [Left(e.path, "not an image") for e in found.others if e.path not in tables]
    reader = SampleReader(recipe, told)
    masks = Masks(found.images, recipe, reader.meaning)
    out.released, rest = _take_released(masks.rest, recipe)
    for released in out.released:
        out.ignored += [Left(p, f"a copy in the released {released.percent:g} % set") for p in released.paths]
    fitting: Iterable[Fitting] = _fitting(rest, reader, recipe, out.bad if found.detected else out.ignored)
    if recipe.masks or told:
        fitting = list(fitting)
        for entry, fields in fitting:
            masks.claim(entry.path, fields)
            reader.claim(entry.path, fields)
    met: set[str] = set()
    for entry, fields in fitting:
        if (dropped := reader.drops(entry, fields)) is not None:
            out.ignored.append(Left(entry.path, f"the recipe drops class {dropped}"))
            met.add(dropped)
            continue
        sample, problem = reader.sample(entry, fields)
        mask, trouble = masks.of(entry.path, fields)
        if problem or trouble:
            out.bad.append(Left(entry.path, problem or trouble or ""))
        elif recipe.splits.keep is not None and sample.split not in recipe.splits.keep:
            out.ignored.append(Left(entry.path, f"the recipe keeps no split {sample.split}"))
        else:
            out.samples.append(replace(sample, mask=mask) if mask else sample)
    orphans = masks.orphans()
    out.ignored += [Left(e.path, "a mask without an image") for e in orphans]
    _check_masks(out, orphans, recipe, detected=found.detected)
    reader.refuse_unknown_classes()
    idle = sorted(reader.dropped - {nfc(name) for name in met})
    out.notes += [f"the recipe drops class {name}, and there is no such class" for name in idle]
    reader.refuse_merged({s.split for s in out.samples})
    if found.detected and recipe.masks is None:
        _note_twins(out, recipe.images[0])
    _finish_labels(out, found)
    _finish_groups(out, recipe)
    _finish_splits(out, recipe, reader)
    _note_unused_rows(out, told)
    if not found.ordered:
        for rows in (out.samples, out.bad, out.ignored):
            rows.sort(key=lambda r: r.path)
    return out


Fitting = tuple[SourceEntry, dict[str, str]]
"""An image, and what its path and its container say about it."""


def _fitting(entries: list[SourceEntry], reader: SampleReader, recipe: Recipe, others: list[Left]) -> Iterator[Fitting]:
    """Yield the images that match a pattern, or all if there is none. Append the rest to `others`."""
    for entry in entries:
        fields = reader.fields_of(entry)
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


def _check_masks(out: Arranged, orphans: list[SourceEntry], recipe: Recipe, *, detected: bool) -> None:
    """Add a note on masks without an image, and record what was concluded of masks.

    Raises:
        UsageError: masks were detected, and none belongs to an image.
    """
    paired = sum(s.mask is not None for s in out.samples)
    if orphans and not paired and detected and out.samples:
        first = min(e.path for e in orphans)
        folder = first.rpartition("/")[0]
        raise UsageError(
            f"{len(orphans)} files are named or placed as masks ({first}), and none has the name of an image",
            hint="give `images` and `masks` in a recipe, with {id} for what both names share, or leave the masks out: "
            f"`ignore: [{json.dumps(folder + '/*' if folder else first, ensure_ascii=False)}]`",
        )
    if orphans:
        out.notes.append(f"{len(orphans)} masks have no image, such as {min(e.path for e in orphans)}")
    if detected and paired:
        evidence = f"{paired} of {len(out.samples)} images have a mask by this pattern"
        out.guesses.append(Guess("masks", f"masks: {json.dumps(recipe.masks)}", evidence))


def _note_twins(out: Arranged, pattern: str) -> None:
    """Add a note if most images have a twin of the same name and another suffix. One of the two is often the mask.

    Args:
        out: the samples.
        pattern: the detected pattern of images.
    """
    by_stem: dict[str, list[str]] = defaultdict(list)
    for s in out.samples:
        head, _, suffix = s.path.rpartition(".")
        by_stem[head].append(suffix)
    twins = Counter(tuple(sorted(suffixes)) for suffixes in by_stem.values() if len(suffixes) > 1)
    if twins.total() * 2 <= len(by_stem):
        return
    # Masks are stored without loss, most often as PNG.
    pair = sorted(twins.most_common(1)[0][0][:2], key=lambda suffix: (suffix.lower() == "png", suffix.lower() == "gif"))
    head = pattern.removesuffix("{name}")
    lines = [f'{what}: "{head}{{id}}.{suffix}"' for what, suffix in zip(("images", "masks"), pair, strict=True)]
    out.notes.append(
        f"{twins.total()} images have a twin of the same name in the same folder; if these are masks, "
        f"say so in a recipe: `{lines[0]}` and `{lines[1]}`"
    )


def _finish_labels(out: Arranged, found: Listing) -> None:
    """Fix the order of classes. An unlabelled image among labelled ones becomes a bad sample.

    Raises:
        UsageError: two classes of the source differ only in case or in blanks, or there are too many.
    """
    labelled = {s.label for s in out.samples if s.label is not None}
    if labelled and any(s.label is None for s in out.samples):
        out.bad += [Left(s.path, "it has no label") for s in out.samples if s.label is None]
        out.samples = [s for s in out.samples if s.label is not None]
    _refuse_twins(out, labelled)
    out.classes = _class_order(labelled, found)
    if len(out.classes) > MOST_CLASSES:
        raise UsageError(
            f"{len(out.classes)} classes are too many", hint="folders of patients or cases are `{group}`, not `{class}`"
        )
    out.notes += [f"class {name} has no image" for name in out.classes if name not in labelled]


def _refuse_twins(out: Arranged, labelled: set[str]) -> None:
    """Raise UsageError if two classes look the same. The hint is the whole line of a recipe that makes them one."""
    by_look: dict[str, list[str]] = defaultdict(list)
    for name in sorted(labelled):
        by_look[look(name)].append(name)
    twins = [names for names in by_look.values() if len(names) > 1]
    if not twins:
        return
    places = sorted({s.path.rpartition("/")[0] or "." for s in out.samples if s.label in twins[0]})
    more = f" and {len(places) - 4} more folders" if len(places) > 4 else ""
    names = [name for same in twins for name in same]
    blanks = " or in blanks" if any(name != one_blank(name) for name in names) else ""
    odd = any(not n.isascii() and one_blank(n.casefold()) != look(n) for n in names)
    blanks += " or in letters that look alike" if odd else ""
    classes = []
    for same in by_look.values():
        best = next((n for n in reversed(same) if n.isascii() and n == one_blank(n)), same[0])
        classes.append(f"{_escaped(best)}: [{', '.join(_escaped(n) for n in same if n != best)}]")
    raise UsageError(
        f"classes that differ only in case{blanks}: " + "; ".join(" and ".join(map(_escaped, t)) for t in twins),
        where=", ".join(places[:4]) + more,
        hint=f"rename one, or say in a recipe that they are one class:\n    classes: {{{', '.join(sorted(classes))}}}\n"
        "  nothing was decoded yet, and bad files are listed once this is mended",
    )


def _escaped(name: str) -> str:
    """Return a name as YAML, with escapes for everything outside ASCII."""
    return quoted(name) if name.isascii() else json.dumps(name)


def _class_order(labelled: set[str], found: Listing) -> list[str]:
    """Return the classes in label order: that of the recipe, else that of the source, else sorted."""
    if not labelled:
        return []
    if names := found.recipe.class_names():
        return names
    if found.classes:
        return [*found.classes, *sorted(labelled - set(found.classes))]
    if found.numbered:
        return sorted(labelled, key=lambda n: (not n.isdecimal(), int(n) if n.isdecimal() else 0, n))
    return sorted(labelled)


def _finish_groups(out: Arranged, recipe: Recipe) -> None:
    """Unite groups that are written in several ways if the recipe says so, else add a note on them."""
    several = written_in_several_ways({s.group for s in out.samples if s.group is not None})
    if not several:
        return
    if recipe.unite_groups:
        first = {group: same[0] for same in several for group in same}
        out.samples = [replace(s, group=first.get(s.group or "", s.group)) for s in out.samples]
    else:
        out.notes.append(
            f"{len(several)} groups may be written in several ways, such as {', '.join(map(quoted, several[0]))}: each "
            "counts as a group of its own; if they are the same, say `unite_groups: true` in a recipe"
        )


def _finish_splits(out: Arranged, recipe: Recipe, reader: SampleReader) -> None:
    """Check splits and groups against what the recipe says of them, once all samples are known.

    Raises:
        UsageError: a split is unknown, or would stay empty.
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
