"""What all tasks on a cluster share: signals, and how they tell of errors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medvq.errors import MedvqError


def leave_signals_to_parent() -> None:
    """Let worker processes ignore SLURM's signals, which may go to all processes: only one is to react."""
    os.register_at_fork(after_in_child=_ignore_signals)


def _ignore_signals() -> None:
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def errors_for_people(note: Callable[[MedvqError], None] = lambda error: None) -> Iterator[None]:
    """Print an error without a traceback, and make its exit code that of the process.

    Args:
        note: is given the error first.
    """
    try:
        yield
    except MedvqError as e:
        print("\n".join(f"medvq: {line}" for line in str(e).splitlines()), flush=True)
        note(e)
        sys.exit(e.code)
