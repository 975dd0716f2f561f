"""Read tables of labels, groups and splits as they come: with BOM, CRLF, semicolons, quoted names, UTF-16."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from medvq.config.recipe import LabelTable
from medvq.errors import DataError, NotFoundError, UsageError, suggest
from medvq.shards.source.patterns import nfc, stem
from medvq.shards.source.table_text import INVISIBLE, decode_text


@dataclass(frozen=True)
class Said:
    """What one row of a table says about an image."""

    line: int
    label: str | None = None
    group: str | None = None
    split: str | None = None


@dataclass
class Told:
    """The rows of a table by image."""

    table: LabelTable
    rows: dict[str, Said] = field(default_factory=dict)
    """Rows by id, or by path if the table matches paths."""
    conflicts: dict[str, str] = field(default_factory=dict)
    """Ids about which the table says two different things, and what is wrong."""
    used: dict[str, str] = field(default_factory=dict)
    """Ids that an image has, and the first such image."""
    several: dict[str, list[str]] = field(default_factory=dict)
    """Ids that are the names of several images, and the images."""

    def claim(self, path: str, id_: str) -> None:
        """Record that there is an image at `path`. Call this for all images before `about` for any."""
        key = self._key(path, id_)
        if key is None:
            return
        # An {id} that is only a part of the name, such as that of a patient, may belong to several images.
        if key in self.used and (self.table.match == "path" or nfc(id_) == nfc(stem(path))):
            self.several.setdefault(key, [self.used[key]]).append(path)
        self.used.setdefault(key, path)

    def about(self, path: str, id_: str) -> tuple[Said | None, str | None]:
        """Return what the table says about an image, None if nothing, and what is wrong with it, if so."""
        key = self._key(path, id_)
        if key is None:
            return None, f"no row for it in {self.table.file}" if self.table.complete else None
        said = self.rows.get(key)
        if key in self.several and said and not (self.table.match == "path" and key == nfc(path)):
            return said, f"{self.table.file} line {said.line}: {key} is the name of {shown(self.several[key])}"
        return said, self.conflicts.get(key)

    def _key(self, path: str, id_: str) -> str | None:
        """Return the id of the row for an image; None if there is none."""
        path, id_ = nfc(path), nfc(id_)
        if self.table.match == "stem":
            return next((k for k in (stem(id_), stem(path)) if k in self.rows), None)
        if self.table.match == "id":
            return next((k for k in (id_, path.rsplit("/", 1)[-1]) if k in self.rows), None)
        parts = path.split("/")
        # Paths of the table may start above or below the source: the longest common end decides.
        for i in range(len(parts)):
            key = "/".join(parts[i:])
            if key in self.rows:
                return key
        return next((k for k in self._by_name().get(parts[-1], ()) if k.endswith("/" + path)), None)

    def _by_name(self) -> dict[str, list[str]]:
        if not hasattr(self, "_names"):
            self._names: dict[str, list[str]] = {}
            for key in self.rows:
                self._names.setdefault(key.rsplit("/", 1)[-1], []).append(key)
        return self._names


def shown(paths: list[str]) -> str:
    """Return the first of `paths`, and how many more there are, as text."""
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


TABLES = (".csv", ".tsv", ".tab", ".txt")
"""Suffixes of files that may be tables."""
Rows = list[tuple[int, dict[str, str]]]
"""For each row its line number and its values by column."""


def read_rows(path: Path, encoding: str | None = None) -> tuple[list[str], Rows]:
    """Read a table.

    Of columns with one name, the first is returned if their values are equal. If not, they are called
    `name (column 2)`, `name (column 4)` and so on.

    Returns:
        Column names, and for each row its line number and its values by column, without blanks around them.

    Raises:
        NotFoundError: there is no such file.
        DataError: it cannot be read, is not text, has no header, or a row has more values than there are columns.
        EncodingError: `encoding` is not given, and the bytes do not prove which it is.
    """
    text = decode_text(_bytes_of(path), str(path), encoding)
    if "\0" in text:
        raise DataError("not a text table", where=str(path))
    delimiter, skipped = None, 0
    if stated := re.match(r"\s*\"?sep=(.)\"?[^\S\n]*\r?\n", text):  # the first line of tables for Excel
        delimiter, text, skipped = stated[1], text[stated.end() :], 1
    first = text.splitlines()[0] if text.strip() else ""
    delimiter = delimiter or max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    lines: list[tuple[int, list[str]]] = []
    header: list[str] | None = None
    try:
        for values in reader:
            line = reader.line_num + skipped
            values = [v.strip().strip(INVISIBLE).strip() for v in values]
            if not any(values):
                continue
            if header is None:
                header = values
                continue
            if len(values) > len(header) and any(values[len(header) :]):
                raise DataError(
                    f"{len(values)} values where the header has {len(header)} columns", where=f"{path}:{line}"
                )
            lines.append((line, values))
    except csv.Error as e:
        raise DataError(f"not a table: {e}", where=f"{path}:{reader.line_num + skipped}") from e
    if header is None:
        raise DataError("the table is empty", where=str(path))
    columns = _distinct(header, [values for _, values in lines])
    rows = [
        (line, {name: values[i] for i, name in enumerate(columns) if name is not None and i < len(values)})
        for line, values in lines
    ]
    return [name for name in columns if name is not None], rows


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as e:
        there = sorted(p.name for p in path.parent.glob("*") if p.suffix.lower() in TABLES)
        hint = "paths in a recipe are relative to the source; " + (
            f"in that folder there are: {shown(there)}" if there else "that folder has no table"
        )
        raise NotFoundError("no such table", where=str(path), hint=hint) from e
    except OSError as e:
        raise DataError(f"the table cannot be read: {e.strerror}", where=str(path)) from e


def _distinct(header: list[str], rows: list[list[str]]) -> list[str | None]:
    """Return a name for each column, None for a copy of an earlier one."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(header):
        places.setdefault(name, []).append(i)
    out: list[str | None] = list(header)
    for name, same in places.items():
        columns = [[values[i] if i < len(values) else "" for values in rows] for i in same]
        differ = any(column != columns[0] for column in columns)
        for i in same[0 if differ else 1 :] if len(same) > 1 else []:
            out[i] = f"{name} (column {i + 1})" if differ else None
    return out


def read_table(table: LabelTable, source: Path) -> Told:
    """Read a table whose path is relative to the folder `source`.

    Raises:
        NotFoundError, DataError: as for `read_rows`.
        UsageError: it lacks a column that the recipe names.
    """
    path = source / table.file
    header, rows = read_rows(path, table.encoding)
    ids = [table.id] if isinstance(table.id, str) else table.id
    for column in [*ids, table.label, *table.one_hot, table.group, table.split]:
        if column is not None and column not in header:
            same = [h for h in header if re.fullmatch(re.escape(column) + r" \(column \d+\)", h)]
            if same:
                raise UsageError(
                    f"the table has {len(same)} columns {column!r} with different values",
                    where=str(path),
                    hint=f"name one of them in the recipe: {' or '.join(map(quoted, same))}",
                )
            raise UsageError(f"the table has no column {column!r}", where=str(path), hint=suggest(column, header))
    told = Told(table)
    for line, row in rows:
        key = nfc(_id_of(row, ids, table))
        if not key:
            continue
        label, problem = _label_of(row, table)
        said = Said(line, label, _or_none(row, table.group), _or_none(row, table.split))
        if problem:
            told.conflicts[key] = f"{table.file} line {line}: {problem}"
        before = told.rows.get(key)
        if before and (before.label, before.group, before.split) != (said.label, said.group, said.split):
            told.conflicts[key] = f"lines {before.line} and {line} of {table.file} disagree about it"
        told.rows.setdefault(key, said)
    return told


def read_list(split: str, file: str, source: Path) -> Told:
    """Read a text file whose lines name the images of `split`, by id or by path.

    Raises:
        NotFoundError: there is no such file.
    """
    try:
        lines = decode_text((source / file).read_bytes(), str(source / file)).splitlines()
    except FileNotFoundError as e:
        raise NotFoundError(
            "no such list", where=str(source / file), hint="a recipe's paths are relative to the source"
        ) from e
    except OSError as e:
        raise DataError(f"the list cannot be read: {e.strerror}", where=str(source / file)) from e
    names = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    paths = any("/" in name for _, name in names)
    told = Told(LabelTable(file=file, id="line", split="line", match="path" if paths else "id", complete=False))
    told.rows = {nfc(name): Said(n, split=split) for n, name in names}
    return told


def quoted(text: str) -> str:
    """Return text as it is written in YAML: in double quotes with escapes, unless it is a plain word."""
    plain = re.fullmatch(r"[^\W\d](?:[\w ./-]*[\w./-])?", text)
    reserved = text.lower() in ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
    seen = all(c.isascii() or (c.isalpha() and ord(c) > 0x2FF) for c in text)
    return text if plain and not reserved else json.dumps(text, ensure_ascii=not seen)


def _or_none(row: dict[str, str], column: str | None) -> str | None:
    return (row.get(column) or None) if column else None


def _id_of(row: dict[str, str], columns: list[str], table: LabelTable) -> str:
    values = [row.get(c, "") for c in columns]
    if not all(values):
        return ""
    if table.format:
        try:
            return table.format.format(*[int(v) if v.lstrip("+-").isdigit() else v for v in values])
        except (ValueError, IndexError):
            return values[0]
    text = "/".join(values).replace("\\", "/")
    if table.match == "stem":
        return stem(text)
    return text.removeprefix("./") if table.match == "path" else text


def _label_of(row: dict[str, str], table: LabelTable) -> tuple[str | None, str | None]:
    """Return the label of a row, None if it has none, and what is wrong with it, if so."""
    if table.label:
        value = row.get(table.label, "")
        if not value:
            return None, f"no {table.label}"
        return table.values.get(value, value), None
    if not table.one_hot:
        return None, None
    hot = []
    for column in table.one_hot:
        try:
            number = float(row.get(column, "") or 0)
        except ValueError:
            return None, f"{column} is {row.get(column)!r}, not 0 or 1"
        if number not in (0.0, 1.0):
            return None, f"{column} is {number:g}, not 0 or 1"
        if number:
            hot.append(table.values.get(column, column))
    if len(hot) > 1:
        return None, f"several classes: {', '.join(hot)}"
    if not hot and table.otherwise is None:
        return None, "no class is 1"
    return (hot[0] if hot else table.otherwise), None
