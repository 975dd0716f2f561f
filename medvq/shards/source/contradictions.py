"""Refuse a table that contradicts itself, another table, or the folders: what is right cannot be known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from medvq.errors import UsageError
from medvq.shards.source.guess_columns import (
    LABELS,
    SPLITS,
    Candidate,
    NameColumn,
    called,
    line_of,
    one_of,
    plain,
    second,
    table_of,
)
from medvq.shards.source.patterns import SPLIT_WORDS, nfc
from medvq.shards.source.tables import quoted


def refuse_disagreeing_names(source: Path, c: Candidate) -> None:
    """Raise UsageError if two columns name the images and give different rows for one of them."""
    first = c.columns[0]
    for other in c.columns[1:]:
        for path, row in first.rows.items():
            there = other.rows.get(path)
            if there is None or _without(row, first, other) == _without(there, first, other):
                continue
            lines = []
            for column in (first, *c.columns[1:]):
                label = called(c.header, LABELS) or second(c.header, column.column)
                table = table_of(c, column, label)
                reads = f"    # {path}: {row_of[label]}" if label and (row_of := column.rows.get(path)) else ""
                lines += [line_of(table) + reads] if table else []
            known = ", ".join(quoted(n.column) for n in c.columns)
            raise UsageError(
                f"{len(c.columns)} columns name the images ({known}), and they disagree about {path}",
                where=str(source / c.file),
                hint=one_of(lines) if lines else f"remove a column, or ignore the table: `ignore: [{quoted(c.file)}]`",
            )


def _without(row: Mapping[str, str], *columns: NameColumn) -> dict[str, str]:
    names = {c.column for c in columns}
    return {k: v for k, v in row.items() if k not in names}


def refuse_contradicting_folders(
    source: Path, c: Candidate, images: Mapping[str, Mapping[str, str]], layout: Sequence[str]
) -> None:
    """Raise UsageError if the table gives other labels or splits than the folders do.

    Args:
        source: the folder.
        c: the table.
        images: path of each image, and what its folders say about it.
        layout: the lines of a recipe that say what the folders mean.
    """
    column = c.columns[0]
    by_path = {nfc(p): fields for p, fields in images.items()}
    label, split = called(c.header, LABELS), called(c.header, SPLITS)
    for key, name in (("class", label), ("split", split)):
        pairs = {
            (by_path[p][key], row[name]): p
            for p, row in column.rows.items()
            if name and name != column.column and key in by_path[p] and row.get(name)
        }
        if key == "split":
            pairs = {pair: p for pair, p in pairs.items() if pair[1].lower() in SPLIT_WORDS}
            odd = [p for (a, b), p in pairs.items() if SPLIT_WORDS.get(a.lower(), a) != SPLIT_WORDS[b.lower()]]
        else:
            folders, values = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
            odd = [p for (a, b), p in pairs.items() if folders[a] > 1 or values[b] > 1]
            if {plain(a) for a in folders} & {plain(b) for b in values}:
                odd += [p for (a, b), p in pairs.items() if plain(a) != plain(b)]
            odd = odd if len(values) > 1 else []
        if not odd:
            continue
        path = min(odd)
        by_table = table_of(c, column, label, split if key == "split" else None)
        lines = [f"ignore: [{quoted(c.file)}]    # as the folders say: {path} is {by_path[path][key]}"]
        if by_table and name:
            reads = f"    # as the table says: {path} is {column.rows[path][name]}"
            folders_apart = [line.replace(f"{{{key}}}", "{*}") for line in layout]
            lines.append("\n    ".join([line_of(by_table) + reads, *(f"{line}    # too" for line in folders_apart)]))
        raise UsageError(
            f"column {quoted(str(name))} and the folders disagree about the {key} of images such as {path}",
            where=str(source / c.file),
            hint=one_of(lines),
        )


def refuse_disagreeing_tables(source: Path, usable: Sequence[Candidate]) -> None:
    """Raise UsageError if two tables give an image different labels."""
    first = usable[0]
    for other in usable[1:]:
        for path, row in first.columns[0].rows.items():
            there = other.columns[0].rows.get(path)
            if not (first.table and other.table and there):
                continue
            mine, its = row.get(first.table.label or ""), there.get(other.table.label or "")
            if mine != its:
                lines = [f"{line_of(first.table)}    # {path}: {mine}", f"{line_of(other.table)}    # {path}: {its}"]
                raise UsageError(
                    f"{first.file} and {other.file} disagree about the label of {path}",
                    where=str(source),
                    hint=one_of(lines),
                )
