"""The report of a packing, and the two errors that stop it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medvq.errors import DataError
from medvq.shards.dataset.manifest import Leaks
from medvq.shards.source.base import Left
from medvq.shards.source.scan import printable


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


class BadSamplesError(DataError):
    """Some images cannot enter the dataset; `bad` lists all of them (exit 5)."""

    def __init__(self, bad: Sequence[Left], seen: int) -> None:
        self.bad = list(bad)
        lines = [f"  {printable(b.path)}: {b.reason}" for b in bad]
        super().__init__(
            "\n".join([f"{len(bad)} of {seen} files cannot be packed, and nothing was published", *lines]),
            hint="mend or remove them, or leave them out and have them recorded with --on-bad skip",
        )


def leak_text(found: dict[str, Any]) -> str:
    """Return a leak as text."""
    return f"the same {found['kind']} in {' and '.join(found['splits'])}: {', '.join(found['samples'])}"


class LeakError(DataError):
    """Splits share groups or bytes; `found` lists all leaks (exit 5)."""

    def __init__(self, leaks: Leaks) -> None:
        self.found = leaks.found
        lines = [f"  {leak_text(found)}" for found in leaks.found]
        super().__init__(
            "\n".join([f"{len(lines)} leaks between splits, and nothing was published", *lines]),
            hint="mend the splits, or record the leaks in the manifest with --on-leak report",
        )
