"""The report of a packing, and the two errors that stop it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvq.errors import DataError
from medvq.shards.dataset.manifest import Leaks
from medvq.shards.source.base import Left
from medvq.shards.source.scan import printable
from medvq.shards.source.tables import shown


@dataclass(frozen=True)
class PackReport:
    """What became of the entries of a source; seen = written + ignored + skipped."""

    dataset: str
    digest: str
    seen: int
    written: int
    ignored: int
    ignored_kinds: dict[str, int]
    """Ignored files by the end of the name (`.dcm`, `.nii.gz`), most frequent first; empty with opaque keys."""
    skipped: list[dict[str, str]]
    """[{path, reason}]."""
    splits: dict[str, int]
    guesses: list[dict[str, str]]
    """[{what, choice, evidence}]: what was concluded from the source."""
    notes: list[str]
    leaks: list[dict[str, Any]]
    unchanged: bool
    """Whether DEST already was this dataset, so that nothing was written."""


SHOWN = 8
"""Number of bad samples or leaks that a message lists."""


class ListedError(DataError):
    """An error with a list, of which the message shows the first items (exit 5)."""

    def __init__(self, what: str, lines: Sequence[str], hint: str) -> None:
        self.what, self.lines = what, list(lines)
        super().__init__(self._text(""), hint=hint)

    def listed_in(self, file: Path) -> None:
        """Name the file that holds the whole list in the message."""
        self.error = self._text(f" in {file}")

    def _text(self, where: str) -> str:
        more = len(self.lines) - SHOWN
        rest = [f"  and {more} more{where}"] if more > 0 else []
        return "\n".join([self.what, *(f"  {line}" for line in self.lines[:SHOWN]), *rest])


def problems_file(dest: Path) -> Path:
    """Return the file beside a dataset that holds the whole list of a `ListedError`."""
    return dest.with_name(f"{dest.name}.problems.txt")


def keep_list(error: ListedError, dest: Path) -> None:
    """Write the whole list of an error beside `dest` and name the file in the message, if the message is cut.

    Raises:
        OSError: the file cannot be written.
    """
    if len(error.lines) > SHOWN:
        file = problems_file(dest)
        file.write_text("".join(f"{line}\n" for line in error.lines), encoding="utf-8")
        error.listed_in(file)


class BadSamplesError(ListedError):
    """Some images cannot enter the dataset; `bad` lists all of them (exit 5)."""

    def __init__(self, bad: Sequence[Left], seen: int, *, none_left: bool = False) -> None:
        self.bad = list(bad)
        hint = "mend or remove them, or leave them out and have them recorded with --on-bad skip"
        super().__init__(
            f"{len(bad)} of {seen} files cannot be packed, and nothing was published",
            [f"{printable(b.path)}: {b.reason}" for b in bad],
            hint="no image is left without them: mend them" if none_left else hint,
        )


def leak_text(found: dict[str, Any]) -> str:
    """Return a leak as text."""
    return f"the same {found['kind']} in {' and '.join(found['splits'])}: {shown(found['samples'])}"


class LeakError(ListedError):
    """Splits share groups or bytes; `found` lists all leaks (exit 5)."""

    def __init__(self, leaks: Leaks) -> None:
        self.found = leaks.found
        super().__init__(
            f"{len(leaks.found)} leaks between splits, and nothing was published",
            [leak_text(found) for found in leaks.found],
            hint="mend the splits, or record the leaks in the manifest with --on-leak report",
        )
