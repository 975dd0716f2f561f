"""Find the table of labels beside a folder of images, if no recipe names one. What is not certain is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from medvq.config.recipe import LabelTable
from medvq.errors import DataError, UsageError
from medvq.shards.source.base import Guess
from medvq.shards.source.contradictions import (
    refuse_contradicting_folders,
    refuse_disagreeing_names,
    refuse_disagreeing_tables,
)
from medvq.shards.source.guess_columns import (
    GROUPS,
    Candidate,
    Names,
    called,
    candidate,
    choose_columns,
    line_of,
    one_of,
    table_of,
)
from medvq.shards.source.near_names import why_no_names
from medvq.shards.source.patterns import ending
from medvq.shards.source.table_text import EncodingError
from medvq.shards.source.tables import TABLES, Rows, quoted, read_rows, shown

SHOWN = 8
"""Number of classes that a note names."""
SHEETS = (".xlsx", ".xls", ".ods")
"""Suffixes of tables that are not read."""


def guess_table(
    source: Path, files: Sequence[str], images: Mapping[str, Mapping[str, str]], layout: Sequence[str]
) -> tuple[LabelTable | None, list[str], list[Guess]]:
    """Return the table that names the images and has a column of classes, if there is exactly one.

    The column of classes is found by its name (`label`, `class`, `diagnosis` and so on). In a table of two columns it
    is the one that does not name the images, unless it has nearly as many values as there are images.

    Args:
        source: the folder.
        files: paths of all other files.
        images: path of each image, and what its folders say about it (`class`, `split`).
        layout: the lines of a recipe that say what the folders mean. If they give labels, no table is used, but none
            may contradict them.

    Returns:
        The table or None; notes: on its classes, on other tables that name the images and, if there are no labels, on
        all tables that are not used; and what was guessed by which evidence.

    Raises:
        UsageError: two columns, two tables, or a column and the folders contradict each other, or the table that names
            the images has an unknown encoding. The hint has a line of a recipe for each candidate.
    """
    names, labelled = Names.of(list(images)), any("{class}" in line for line in layout)
    found = {f: _read(source, f, names) for f in sorted(files) if f.lower().endswith(TABLES)}
    candidates = [c for f, read in found.items() if read and (c := candidate(f, *read, names))]
    for c in candidates:
        refuse_disagreeing_names(source, c)
        choose_columns(source, c)
        refuse_contradicting_folders(source, c, images, layout)
    usable = [c for c in candidates if c.table]
    if len(usable) > 1 and not labelled:
        refuse_disagreeing_tables(source, usable)
    taken = usable[0] if len(usable) == 1 and not labelled else None
    notes = []
    for c in candidates:
        if c is not taken:
            why = "several tables have labels" if c.table else "no column is known to hold labels"
            why = "labels come from the folders" if labelled else why
            what = f"{c.file} names the images ({c.columns[0].column}) and is not used, as {why}"
            notes.append(f"{what}: name it in a recipe{_proposal(c, labelled)}")
    guesses: list[Guess] = []
    if taken and taken.table:
        table = taken.table
        rows = taken.columns[0].rows
        classes = sorted({v for row in rows.values() if (v := row.get(table.label or ""))})
        first = ", ".join(classes[:SHOWN]) + (", ..." if len(classes) > SHOWN else "")
        notes.append(
            f"labels are column {table.label} of {table.file}, with {len(classes)} classes: {first}; "
            f"images are named by its column {quoted(str(table.id))} ({len(rows)} of {len(images)} images)"
        )
        guesses.append(Guess("table", line_of(table), "; ".join(taken.evidence)))
    elif not labelled:
        told = {c.file for c in candidates}
        notes += _left_over(files, found, told, list(names.paths), len(images))
    return taken.table if taken else None, notes, guesses


Read = tuple[list[str], Rows]
"""Header and rows of a table."""


def _read(source: Path, file: str, names: Names) -> Read | None:
    """Return a table; None if the file is none.

    Raises:
        UsageError: its encoding is unknown, and it names images.
    """
    path = source / file
    try:
        header, rows = read_rows(path)
    except EncodingError as e:
        _ask_encoding(path, file, e, names)
        return None
    except DataError:
        return None
    if path.suffix.lower() == ".txt" and len(header) < 2:  # a readme or a list
        return None
    return header, rows


def _ask_encoding(path: Path, file: str, e: EncodingError, names: Names) -> None:
    """Raise UsageError with a line of a recipe for each possible encoding, if the table labels images."""
    lines = []
    for encoding in e.candidates:
        found = candidate(file, *read_rows(path, encoding), names)
        if found is None:
            continue
        choose_columns(path.parent, found)
        if found.table:
            table = found.table.model_copy(update={"encoding": encoding})
            values = sorted({row.get(table.label or "", "") for row in found.columns[0].rows.values()})
            lines.append(f"{line_of(table)}    # reads {', '.join(values[:3])}")
    if lines:
        raise UsageError(e.error, where=str(path), hint=one_of(lines)) from e


def _proposal(c: Candidate, labelled: bool) -> str:
    """Return the line of a recipe that uses the table, in brackets, if one is known."""
    column = c.columns[0]
    group = called(c.header, GROUPS)
    label = None if labelled or c.table is None else c.table.label
    table = table_of(c, column, label, None, group if group != column.column else None)
    return f", `{line_of(table)}`" if table else ""


def _left_over(
    files: Sequence[str], found: Mapping[str, Read | None], told: set[str], images: Sequence[str], count: int
) -> list[str]:
    """Return a note for every reason for which tables are not used, except for the tables in `told`."""
    why: dict[str, list[str]] = {}
    for file in sorted(files):
        read = found.get(file)
        if file.lower().endswith(SHEETS):
            reason = "save it as CSV"
        elif file not in found or file in told or (ending(file) == ".txt" and not read):
            continue
        elif read is None or not read[1]:
            reason = "it cannot be read as a table with a header"
        else:
            reason = why_no_names(file, *read, images, count)
            if ending(file) == ".txt" and reason.startswith("no column"):
                continue
        why.setdefault(reason, []).append(file)
    return [f"not used: {shown(same)}: {reason}" for reason, same in why.items()]
