"""Exceptions for users. Each says what is wrong, where, and what to do, and has the exit code of its kind."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class MedvqError(Exception):
    """Base class of all errors of medvq: the operation failed (exit code 1).

    Attributes:
        error: what is wrong.
        where: the place of the error, such as a file with line and key.
        hint: what the user can do about it.
        code: exit code of the command line.
    """

    code = 1

    def __init__(self, error: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(error)
        self.error, self.where, self.hint = error, where, hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.error}" if self.where else self.error
        return f"{head}\n  {self.hint}" if self.hint else head


class UsageError(MedvqError):
    """Wrong usage or configuration, such as an unknown key, a dependency cycle or an empty source (exit code 2)."""

    code = 2


class NotFoundError(MedvqError):
    """A study, dataset, run or source does not exist (exit code 3)."""

    code = 3


class MissingError(MedvqError):
    """The environment lacks something, such as a package or SLURM (exit code 4)."""

    code = 4


class DataError(MedvqError):
    """Data are corrupt, have the wrong digest, or leak between splits (exit code 5)."""

    code = 5


class RunsFailedError(MedvqError):
    """At least one run failed (exit code 6)."""

    code = 6


class StoppedError(MedvqError):
    """A run stopped after writing a checkpoint; the same command continues it (exit code 7)."""

    code = 7


class StillRunningError(MedvqError):
    """At least one run has not finished yet (exit code 8)."""

    code = 8


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem in a file."""

    where: str
    """Place of the problem: file, line and dotted key."""
    error: str
    """What is wrong."""
    hint: str | None = None
    """What the user can do about it."""

    def __str__(self) -> str:
        return f"{self.where}: {self.error}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(UsageError):
    """All problems found in a file (exit code 2)."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        first = self.problems[0]
        super().__init__(first.error, where=first.where, hint=first.hint)

    def __str__(self) -> str:
        return "\n".join(str(p) for p in self.problems)


def suggest(name: str, names: Iterable[str]) -> str | None:
    """Return a hint about which of `names` a user may have meant by `name`.

    Returns:
        `did you mean X?` with the closest name; `known: A, B` with all names if none is close and there are at most
        20; None otherwise.
    """
    known = sorted(set(names))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= 20 else None
