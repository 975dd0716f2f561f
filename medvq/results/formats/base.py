"""The interface of a table format, and how formats are found."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from medvq.errors import UsageError
from medvq.registry import FORMATS
from medvq.results.cells import FilledTable


class TableFormat(ABC):
    """Renders the filled tables of a study as text or as bytes.

    To add a format of your own, derive a class from this one, implement `render`, and give its import path:
    `medvq results STUDY --format my_lab.tables:Html`.
    """

    suffix: ClassVar[str] = ""
    """Suffix of the files in this format, with its dot, such as `.md`."""
    binary: ClassVar[bool] = False
    """Whether `render` returns bytes. Binary formats are written to files only, never printed."""

    @abstractmethod
    def render(self, study: str, tables: Sequence[FilledTable]) -> str | bytes:
        """Return the tables of one study; text has no line break at its end."""

    def render_all(self, studies: Sequence[tuple[str, Sequence[FilledTable]]]) -> str | bytes:
        """Return the tables of several studies in one document.

        Texts are separated by an empty line. A format that combines studies in another way overrides this method.

        Args:
            studies: name and filled tables of each study.

        Raises:
            UsageError: the format is binary and cannot hold several studies.
        """
        parts = [self.render(study, tables) for study, tables in studies]
        if not self.binary:
            return "\n\n".join(map(str, parts))
        if len(parts) != 1:
            raise UsageError(f"this format holds one study, not {len(parts)}", hint="name a study")
        return parts[0]


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
