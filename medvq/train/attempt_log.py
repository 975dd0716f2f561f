"""The log file of one rank in one attempt."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

from medvq.files import make_folder


class _LogFile(logging.FileHandler):
    """A log file that prints nothing on the terminal if the disk is full: the run itself ends and says why."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it
        """Drop the record."""


@contextlib.contextmanager
def attempt_log(path: Path) -> Iterator[None]:
    """Write what medvq logs, and Python's warnings, to a file while the block runs."""
    make_folder(path.parent)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger("medvq"), logging.getLogger("py.warnings")]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        with warnings.catch_warnings():
            yield
    finally:
        logging.captureWarnings(False)
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
        handler.close()
