"""Find the columns of a table that hold names of images, labels, splits and groups. What is not certain is asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medvq.config.recipe import LabelTable
from medvq.errors import UsageError
from medvq.shards.source.patterns import SPLIT_WORDS, nfc, stem
from medvq.shards.source.tables import Rows, quoted

LABELS = ("label", "class", "category", "diagnosis", "target", "dx", "type", "class label", "class_label", "label_name")
SPLITS = ("split", "fold", "set", "partition", "subset")
GROUPS = (
    "patient",
    "patient_id",
    "patientid",
    "subject",
    "subject_id",
    "lesion_id",
    "case",
    "case_id",
    "slide",
    "group",
)
ENOUGH = 0.5
"""Share of the images that a table must name to be used for them."""
MOST_VALUES = 0.5
"""Largest number of different values, as a share of the images, of a column that is taken for classes though its name
does not say so."""


@dataclass(frozen=True)
class Names:
    """The images of a source by the names that a table may call them."""

    paths: Mapping[str, str]
    """Images by path in NFC."""
    short: Mapping[str, str]
    """Images by file name and by stem, if only one image has it."""

    @classmethod
    def of(cls, images: Sequence[str]) -> Names:
        """Return the names of images at these paths."""
        by_name: dict[str, set[str]] = defaultdict(set)
        for path in map(nfc, images):
            for name in (stem(path), path.rsplit("/", 1)[-1]):
                by_name[name].add(path)
        short = {name: next(iter(same)) for name, same in by_name.items() if len(same) == 1}
        return cls({p: p for p in map(nfc, images)}, short)


@dataclass(frozen=True)
class NameColumn:
    """A column of a table that names images."""

    column: str
    match: str
    """`path` or `id`, as in a recipe."""
    rows: Mapping[str, Mapping[str, str]]
    """The row of each image that it names."""


@dataclass
class Candidate:
    """A table that names the images."""

    file: str
    header: list[str]
    columns: list[NameColumn]
    """Columns that name enough images, the most certain one first."""
    table: LabelTable | None = None
    """The table as a recipe would name it; None if no column is known to hold labels."""
    evidence: list[str] = field(default_factory=list)


def line_of(table: LabelTable) -> str:
    """Return the line of a recipe that names this table alone."""
    said = table.model_dump(exclude_defaults=True)
    return "tables: [{" + ", ".join(f"{k}: {quoted(str(v))}" for k, v in said.items() if v is not None) + "}]"


def one_of(lines: Sequence[str]) -> str:
    """Return a hint that proposes these lines of a recipe."""
    return "say it in a recipe, with one of these lines:\n" + "\n".join(f"    {line}" for line in dict.fromkeys(lines))


def candidate(file: str, header: list[str], rows: Rows, names: Names) -> Candidate | None:
    """Return a table with the columns that name enough images; None if there is none.

    If the values of one such column are unique, columns with repeated values do not count: these are numbers of
    something else, such as patients.
    """
    columns: list[NameColumn] = []
    for match, known in (("path", names.paths), ("id", names.short)):
        for column in header:
            if any(c.column == column for c in columns):
                continue
            named: dict[str, Mapping[str, str]] = {}
            for _, row in rows:
                if path := known.get(nfc(row.get(column, ""))):
                    named.setdefault(path, row)
            if named and len(named) >= ENOUGH * len(names.paths):
                columns.append(NameColumn(column, match, named))
    values = {c.column: [v for _, row in rows if (v := row.get(c.column))] for c in columns}
    unique = [c for c in columns if len(set(values[c.column])) == len(values[c.column])]
    return Candidate(file, header, unique or columns) if columns else None


def choose_columns(source: Path, c: Candidate) -> None:
    """Set `table` of a candidate: the columns of labels, groups and splits.

    Raises:
        UsageError: several columns may be the one, and they contradict each other.
    """
    for column in c.columns:
        label = _one_column(source, c, column, "labels", LABELS)
        label = label if label is not None else _other(c.header, column)
        if label in (None, "", column.column):
            continue
        c.columns = [column, *(o for o in c.columns if o is not column)]
        split = _one_column(source, c, column, "splits", SPLITS)
        group = _one_column(source, c, column, "groups", GROUPS)
        c.table = table_of(c, column, label, split, group)
        others = "no other column names them" if len(c.columns) == 1 else "other columns name them in the same way"
        c.evidence = [
            f"column {quoted(column.column)} names {len(column.rows)} images, {others}",
            f"column {quoted(str(label))} is "
            + ("called as labels are" if called(c.header, LABELS) else "the other one of two columns"),
        ]
        return


def table_of(
    c: Candidate, column: NameColumn, label: str | None, split: str | None = None, group: str | None = None
) -> LabelTable | None:
    """Return the table as a recipe names it, None if it gives nothing."""
    if not (label or split or group):
        return None
    match = "path" if column.match == "path" else "id"
    return LabelTable.model_validate(
        {"file": c.file, "id": column.column, "match": match, "label": label, "split": split, "group": group}
    )


def _one_column(source: Path, c: Candidate, column: NameColumn, what: str, names: Sequence[str]) -> str | None:
    """Return the column with one of `names`, the first of them if there are several that agree.

    Raises:
        UsageError: there are several, and they do not agree.
    """
    found = [h for n in names for h in c.header if plain(h) == n and h != column.column]
    if not found:
        return None
    values = {h: [row.get(h, "") for row in column.rows.values()] for h in found}
    varied = [h for h in found if len(set(values[h])) > 1] or found[:1]
    if what == "splits":
        usual = [h for h in varied if all(v.lower() in SPLIT_WORDS for v in values[h] if v)]
        varied = usual if len(usual) == 1 else varied
    if what == "groups":
        # A column whose groups are unions of the others' groups keeps all of them together.
        whole = [h for h in varied if all(_refines(values[o], values[h]) for o in varied)]
        varied = whole[:1] or varied
    if all(_same_partition(values[varied[0]], values[h]) for h in varied[1:]):
        return varied[0]
    key = what.removesuffix("s")
    label = called(c.header, LABELS)
    lines = []
    for h in varied:
        said = {"label": label, "split": None, "group": None} | {key: h}
        if table := table_of(c, column, said["label"], said["split"], said["group"]):
            lines.append(line_of(table))
    raise UsageError(
        f"{len(varied)} columns may hold the {what} ({', '.join(map(quoted, varied))}), and they disagree",
        where=str(source / c.file),
        hint=one_of(lines),
    )


def _refines(fine: Sequence[str], coarse: Sequence[str]) -> bool:
    """Return whether equal values in `fine` always have equal values in `coarse`."""
    return len(set(zip(fine, coarse, strict=True))) == len(set(fine))


def _same_partition(a: Sequence[str], b: Sequence[str]) -> bool:
    return _refines(a, b) and _refines(b, a)


def plain(name: str) -> str:
    """Return the form in which names of columns are compared with the usual ones."""
    return name.partition(" (column ")[0].strip().lower()


def called(header: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column with the first of `names` that a column has; None if no column has any."""
    return next((h for n in names for h in header if plain(h) == n), None)


def second(header: Sequence[str], column: str) -> str | None:
    """Return the other one of two columns."""
    return next((h for h in header if h != column), None) if len(header) == 2 else None


def _other(header: Sequence[str], column: NameColumn) -> str | None:
    """Return the other one of two columns, unless it has too many values to be a column of classes."""
    other = second(header, column.column)
    if other is None:
        return None
    return other if len({row.get(other) for row in column.rows.values()}) <= MOST_VALUES * len(column.rows) else None
