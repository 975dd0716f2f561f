"""Find the table of labels beside a flat folder of images, where no recipe names one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvq.config.errors import DataError
from medvq.config.recipe import Table
from medvq.shards.patterns import stem
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


def guess_table(source: Path, files: Sequence[str], images: Sequence[str]) -> Table | None:
    """The one table among `files` that names the `images` and has a column of classes; None if there is none.

    A column is known by its name (`label`, `class`, `diagnosis`, ...); in a table of two columns it is the other one.
    """
    found = [t for f in sorted(files) if f.lower().endswith((".csv", ".tsv")) if (t := _table(source, f, images))]
    return found[0] if len(found) == 1 else None


def _table(source: Path, file: str, images: Sequence[str]) -> Table | None:
    try:
        header, rows = read_rows(source / file)
    except DataError:
        return None
    names = {"id": {stem(p) for p in images} | {p.rsplit("/", 1)[-1] for p in images}, "path": set(images)}
    for match in ("path", "id"):
        for column in header:
            known = sum(row.get(column, "") in names[match] for _, row in rows)
            label = _called(header, LABELS) or (_other(header, column) if len(header) == 2 else None)
            if known >= ENOUGH * len(images) and label not in (None, column):
                return Table(
                    file=file, id=column, match="path" if match == "path" else "id", label=label,
                    split=_called(header, SPLITS), group=_called(header, GROUPS),
                )  # fmt: skip
    return None


def _called(header: Sequence[str], names: Sequence[str]) -> str | None:
    return next((h for n in names for h in header if h.strip().lower() == n), None)


def _other(header: Sequence[str], column: str) -> str:
    return header[1] if header[0] == column else header[0]
