"""Commands that do runs of a study here: what each still means to do, for those who ask meanwhile.

A run belongs to a worker once it has begun; before that, only the command knows that it will be done.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from medvq.runs.atomic import make_folder, read_json, write_json
from medvq.runs.owner import BEAT_EVERY, SILENT_AFTER
from medvq.runs.process import Process

FOLDER = ".drivers"
"""In a study's folder, with a record of each command."""


@contextlib.contextmanager
def driving(study: Path) -> Iterator[Callable[[Iterable[str]], None]]:
    """Let others know what this process does of the study in the folder `study`: call what is given with the runs."""
    folder, me = make_folder(study / FOLDER), Process.current()
    for path in folder.glob("*.json"):
        if _process(read_json(path), path) is None:
            path.unlink(missing_ok=True)
    file = folder / f"{me.host}-{me.pid}-{secrets.token_hex(4)}.json"
    over = threading.Event()

    def mean(runs: Iterable[str]) -> None:
        write_json(file, {"process": me.record(), "runs": list(runs)})

    def beat() -> None:
        while not over.wait(BEAT_EVERY):
            with contextlib.suppress(OSError):
                os.utime(file)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield mean
    finally:
        over.set()
        file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another command has its record there
            folder.rmdir()


def meant(study: Path) -> dict[str, Process]:
    """The runs of a study that commands under way mean to do or are doing, each with its command's process."""
    found: dict[str, Process] = {}
    for path in sorted((study / FOLDER).glob("*.json")):
        record = read_json(path)
        process = _process(record, path)
        if process is not None:
            found |= dict.fromkeys(record["runs"], process)
    return found


def _process(record: Any, path: Path) -> Process | None:
    """The process of a record, where it lives."""
    if not isinstance(record, dict):
        return None
    process = Process.of(record["process"])
    alive = process.alive()
    if alive is None:
        with contextlib.suppress(OSError):
            alive = time.time() - path.stat().st_mtime < SILENT_AFTER
    return process if alive else None
