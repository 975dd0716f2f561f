"""Find the table of labels beside a flat folder of images, if no recipe names one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvq.config.recipe import LabelTable
from medvq.errors import DataError
from medvq.shards.source.patterns import nfc, stem
from medvq.shards.source.tables import read_rows, shown

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
SHOWN = 8
"""Number of classes that a note names."""
SHEETS = (".xlsx", ".xls", ".ods")
"""Suffixes of tables that are not read."""
Rows = list[tuple[int, dict[str, str]]]
Read = tuple[list[str], Rows]
"""Header and rows of a table."""


def guess_table(
    source: Path, files: Sequence[str], images: Sequence[str], *, labelled: bool
) -> tuple[LabelTable | None, list[str]]:
    """Return the table that names the images and has a column of classes, if there is exactly one.

    The column of classes is found by its name (`label`, `class`, `diagnosis` and so on). In a table of two columns it
    is the one that does not name the images, unless it has nearly as many values as there are images.

    Args:
        source: the folder.
        files: paths of all other files.
        images: paths of the images.
        labelled: whether folders give labels. No table is used then.

    Returns:
        The table or None, and notes: on its classes, on other tables that name the images and, if there are no labels,
        on all tables that are not used.
    """
    paths = {nfc(p) for p in images}
    names = {"path": paths, "id": {name for p in paths for name in (stem(p), p.rsplit("/", 1)[-1])}}
    found = {f: _read(source / f) for f in sorted(files) if f.lower().endswith((".csv", ".tsv"))}
    tables = [(f, *t) for f, read in found.items() if read and (t := _table(f, *read, names, len(images)))]
    usable = [t for _, _, t in tables if t]
    taken = usable[0] if len(usable) == 1 and not labelled else None
    notes = []
    for file, column, table in tables:
        if table is None or table is not taken:
            why = "several tables have labels" if table else "no column is known to hold labels"
            why = "labels come from the folders" if labelled else why
            notes.append(f"{file} names the images ({column}) and is not used, as {why}: name it in a recipe")
    if taken and taken.label and (read := found[taken.file]):
        classes = sorted({v for _, row in read[1] if (v := row.get(taken.label))})
        first = ", ".join(classes[:SHOWN]) + (", ..." if len(classes) > SHOWN else "")
        notes.append(f"labels are column {taken.label} of {taken.file}, with {len(classes)} classes: {first}")
    elif not labelled:
        notes += _left_over(files, found, {f for f, _, _ in tables}, paths | names["id"], len(images))
    return taken, notes


def _read(path: Path) -> Read | None:
    try:
        return read_rows(path)
    except DataError:
        return None


def _left_over(
    files: Sequence[str], found: dict[str, Read | None], told: set[str], names: set[str], images: int
) -> list[str]:
    """Return a note for every reason for which tables are not used, except for the tables in `told`."""
    folded = {name.casefold() for name in names}
    why: dict[str, list[str]] = {}
    for file in sorted(files):
        read = found.get(file)
        if file.lower().endswith(SHEETS):
            reason = "save it as CSV"
        elif file not in found or file in told:
            continue
        elif read is None or not read[1]:
            reason = "it cannot be read as a table with a header"
        else:
            columns = [[nfc(row.get(column, "")) for _, row in read[1]] for column in read[0]]
            known = [len({v.rsplit("/", 1)[-1].casefold() for v in values} & folded) for values in columns]
            best = max(range(len(known)), key=known.__getitem__)
            if not known[best]:
                reason = "no column holds names of images"
            elif known[best] > len(set(columns[best]) & names):
                reason = f"its names ({read[0][best]}) differ from those of images in case or folders: spell them alike"
            else:
                reason = f"it names {known[best]} of {images} images ({read[0][best]}), too few: name it in a recipe"
        why.setdefault(reason, []).append(file)
    return [f"not used: {shown(same)}: {reason}" for reason, same in why.items()]


def _table(
    file: str, header: Sequence[str], rows: Rows, names: dict[str, set[str]], images: int
) -> tuple[str, LabelTable | None] | None:
    """Return the column of `file` that names the images, and the table with its classes; None if there is none."""
    first = None
    for match in ("path", "id"):
        for column in header:
            known = [row for _, row in rows if nfc(row.get(column, "")) in names[match]]
            if len(known) < ENOUGH * images:
                continue
            label = _called(header, LABELS) or _other(header, column, known)
            if label not in (None, column):
                return column, LabelTable(
                    file=file, id=column, match="path" if match == "path" else "id", label=label,
                    split=_called(header, SPLITS), group=_called(header, GROUPS),
                )  # fmt: skip
            first = first or column
    return (first, None) if first else None


def _called(header: Sequence[str], names: Sequence[str]) -> str | None:
    return next((h for n in names for h in header if h.strip().lower() == n), None)


def _other(header: Sequence[str], column: str, rows: Sequence[dict[str, str]]) -> str | None:
    """Return the other one of two columns, unless it has too many values to be a column of classes."""
    if len(header) != 2:
        return None
    other = header[1] if header[0] == column else header[0]
    return other if len({row.get(other) for row in rows}) <= MOST_VALUES * len(rows) else None
