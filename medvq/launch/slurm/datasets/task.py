"""How tasks on a cluster tell of errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medvq.errors import MedvqError


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
