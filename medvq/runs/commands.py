"""Commands that do runs of a study here: what each still means to do, for those who ask meanwhile.

A run belongs to a worker once it has begun; before that, only the command knows that it will be done.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvq.files import make_folder, read_json, write_json
from medvq.runs.heartbeat import beating, lives
from medvq.runs.owner import Term
from medvq.runs.process import Process

FOLDER = ".drivers"
"""In a study's folder, with a record of each command."""


@dataclass(frozen=True, kw_only=True)
class Driver:
    """A command that does runs."""

    process: Process
    job: str | None
    """The SLURM job that it is in."""

    def __str__(self) -> str:
        """Where it is, for people."""
        return f"SLURM job {self.job}" if self.job else f"process {self.process.pid} on {self.process.host}"


@contextlib.contextmanager
def driving(study: Path) -> Iterator[Callable[[Iterable[str]], None]]:
    """Let others know what this process does of the study in the folder `study`: call what is given with the runs."""
    folder, me = make_folder(study / FOLDER), Process.current()
    for path in folder.glob("*.json"):
        if _driver(read_json(path), path) is None:
            path.unlink(missing_ok=True)
    file = folder / f"{me.host}-{me.pid}-{secrets.token_hex(4)}.json"
    term = Term.here()
    facts = {"process": me.record(), "job": term.job if term else None}

    def mean(runs: Iterable[str]) -> None:
        write_json(file, {**facts, "runs": list(runs)})

    def beat() -> None:
        with contextlib.suppress(OSError):
            os.utime(file)

    try:
        with beating(beat):
            yield mean
    finally:
        file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another command has its record there
            folder.rmdir()


def meant(study: Path) -> dict[str, Driver]:
    """The runs of a study that commands under way mean to do or are doing, each with its command."""
    found: dict[str, Driver] = {}
    for path in sorted((study / FOLDER).glob("*.json")):
        record = read_json(path)
        driver = _driver(record, path)
        if driver is not None:
            found |= dict.fromkeys(record["runs"], driver)
    return found


def _driver(record: Any, path: Path) -> Driver | None:
    """The command of a record, where it lives."""
    if not isinstance(record, dict):
        return None
    process = Process.of(record["process"])
    return Driver(process=process, job=record["job"]) if lives(process, path) else None
