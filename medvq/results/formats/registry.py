"""The table formats: the built-in ones by name, your own by import path."""

from __future__ import annotations

import inspect
from pathlib import Path

from medvq.errors import UsageError
from medvq.registry import Registry
from medvq.results.formats.base import TableFormat

FORMATS = Registry(
    "format",
    {
        "table": "medvq.results.formats.text:Text",
        "md": "medvq.results.formats.markdown:Markdown",
        "csv": "medvq.results.formats.csv:Csv",
        "tex": "medvq.results.formats.latex:Latex",
        "json": "medvq.results.formats.json:Json",
        "parquet": "medvq.results.formats.parquet:Parquet",
    },
)


def find_format(name: str) -> TableFormat:
    """Return the format with this name or import path.

    Raises:
        UsageError: there is no such format, or the object at the import path is not a table format.
    """
    found = FORMATS.find(name)
    if not (inspect.isclass(found) and issubclass(found, TableFormat)):
        raise UsageError(f"{name} is not a table format", hint=f"derive it from {TableFormat.__module__}:TableFormat")
    if inspect.isabstract(found):
        raise UsageError(f"{name} has no method `render`", hint="render(study, tables) returns text or bytes")
    return found()


def format_of_file(path: Path) -> str:
    """Return the name of the built-in format with the suffix of `path`; `table` if no format has it."""
    return {FORMATS[name].suffix: name for name in FORMATS}.get(path.suffix.lower(), "table")
