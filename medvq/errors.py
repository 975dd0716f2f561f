"""Errors for people: what, where, what to do, and the exit code that says which kind it was."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class MedvqError(Exception):
    """The operation failed (exit 1). `error` says what, `where` names file, line and key, `hint` what to do."""

    code = 1

    def __init__(self, error: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(error)
        self.error, self.where, self.hint = error, where, hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.error}" if self.where else self.error
        return f"{head}\n  {self.hint}" if self.hint else head


class UsageError(MedvqError):
    """Usage or configuration: an unknown key, task or metric, a cycle, an empty source (exit 2)."""

    code = 2


class NotFoundError(MedvqError):
    """A study, dataset, run or source is not there (exit 3)."""

    code = 3


class MissingError(MedvqError):
    """The environment lacks something, such as a package or SLURM (exit 4)."""

    code = 4


class DataError(MedvqError):
    """Corrupt data, a wrong digest, or a leak between splits (exit 5)."""

    code = 5


class RunsFailedError(MedvqError):
    """Some runs failed (exit 6)."""

    code = 6


class StoppedError(MedvqError):
    """Stopped with a checkpoint; the same command goes on (exit 7)."""

    code = 7


class StillRunningError(MedvqError):
    """Runs are still under way (exit 8)."""

    code = 8


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong in a file."""

    where: str
    """File, line and dotted key."""
    error: str
    """What is wrong."""
    hint: str | None = None
    """What to do about it."""

    def __str__(self) -> str:
        return f"{self.where}: {self.error}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(UsageError):
    """Everything that is wrong in a file, at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        first = self.problems[0]
        super().__init__(first.error, where=first.where, hint=first.hint)

    def __str__(self) -> str:
        return "\n".join(str(p) for p in self.problems)


def suggest(name: str, names: Iterable[str]) -> str | None:
    """A hint with the nearest of `names`, or the list of them when none is near and there are few."""
    known = sorted(set(names))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= 20 else None
