"""The interface of a table format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from medvq.errors import UsageError
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
