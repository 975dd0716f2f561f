"""Heartbeats that other machines can see: a process touches a file at regular intervals while it works."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from medvq.runs.process import Process

SILENT_AFTER = 120.0
"""Seconds without a heartbeat after which a process on another machine is considered dead."""
BEAT_EVERY = 15.0
"""Seconds between heartbeats."""


@contextlib.contextmanager
def send_heartbeats(beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` every BEAT_EVERY seconds from a thread while the block runs."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(BEAT_EVERY):
            beat()

    threading.Thread(target=loop, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def is_alive(process: Process, path: Path, now: Callable[[Path], float] = lambda _: time.time()) -> bool:
    """Return whether a process is alive; a process on another machine is alive if its last heartbeat is recent.

    Args:
        process: the process.
        path: the file that it touches.
        now: returns the current time in seconds since 1970, given the folder of `path`.
    """
    alive = process.alive()
    if alive is None:
        with contextlib.suppress(FileNotFoundError):
            alive = now(path.parent) - path.stat().st_mtime < SILENT_AFTER
    return bool(alive)
