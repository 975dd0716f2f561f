"""Signs of life that another machine can see: the time of a file that is touched while a process works."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from medvq.runs.process import Process

SILENT_AFTER = 120.0
"""Seconds without a sign of life after which a process on another machine counts as gone."""
BEAT_EVERY = 15.0


@contextlib.contextmanager
def beating(beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` every BEAT_EVERY seconds, from a thread, while the block runs."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(BEAT_EVERY):
            beat()

    threading.Thread(target=go_on, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def lives(process: Process, path: Path, now: Callable[[Path], float] = lambda _: time.time()) -> bool:
    """Whether a process runs; of one on another machine, whether it has touched `path` not long ago.

    `now` tells the time, given the folder of `path`.
    """
    alive = process.alive()
    if alive is None:
        with contextlib.suppress(FileNotFoundError):
            alive = now(path.parent) - path.stat().st_mtime < SILENT_AFTER
    return bool(alive)
