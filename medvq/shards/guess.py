"""Find the table of labels beside a flat folder of images, where no recipe names one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvq.config.errors import DataError
from medvq.config.recipe import Table
from medvq.shards.patterns import nfc, stem
from medvq.shards.tables import read_rows

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
"""Share of the images that a table must name to be taken for theirs."""


def guess_table(
    source: Path, files: Sequence[str], images: Sequence[str], *, labelled: bool
) -> tuple[Table | None, list[str]]:
    """The one table among `files` that names the `images` and has a column of classes, if there is one.

    A column is known by its name (`label`, `class`, `diagnosis`, ...); in a table of two columns it is the other one.
    `labelled`: the images have labels from their folders, and no table is taken.

    Returns:
        The table, and a note for every other that names the images.
    """
    paths = {nfc(p) for p in images}
    names = {"path": paths, "id": {name for p in paths for name in (stem(p), p.rsplit("/", 1)[-1])}}
    found = [f for f in sorted(files) if f.lower().endswith((".csv", ".tsv"))]
    tables = [(f, *t) for f in found if (t := _table(source, f, names, len(images)))]
    usable = [t for _, _, t in tables if t]
    taken = usable[0] if len(usable) == 1 and not labelled else None
    notes = []
    for file, column, table in tables:
        if table is None or table is not taken:
            why = "several tables have labels" if table else "no column is known to hold labels"
            why = "labels come from the folders" if labelled else why
            notes.append(f"{file} names the images ({column}) and is not used, as {why}: name it in a recipe")
    return taken, notes


def _table(source: Path, file: str, names: dict[str, set[str]], images: int) -> tuple[str, Table | None] | None:
    """The column of `file` that names the images, and what can be read from the table; None if none does."""
    try:
        header, rows = read_rows(source / file)
    except DataError:
        return None
    first = None
    for match in ("path", "id"):
        for column in header:
            known = sum(nfc(row.get(column, "")) in names[match] for _, row in rows)
            if known < ENOUGH * images:
                continue
            label = _called(header, LABELS) or (_other(header, column) if len(header) == 2 else None)
            if label not in (None, column):
                return column, Table(
                    file=file, id=column, match="path" if match == "path" else "id", label=label,
                    split=_called(header, SPLITS), group=_called(header, GROUPS),
                )  # fmt: skip
            first = first or column
    return (first, None) if first else None


def _called(header: Sequence[str], names: Sequence[str]) -> str | None:
    return next((h for n in names for h in header if h.strip().lower() == n), None)


def _other(header: Sequence[str], column: str) -> str:
    return header[1] if header[0] == column else header[0]
