"""Records of the commands that are working on a study outside of a submission, and of the runs they are going to do.

A run has an owner once it has started. Before that, only the command knows that it is going to start the run.
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
from medvq.runs.heartbeat import is_alive, send_heartbeats
from medvq.runs.owner import Term
from medvq.runs.process import Process

FOLDER = ".drivers"
"""Folder inside a study's folder with one record for each command."""


@dataclass(frozen=True, kw_only=True)
class Driver:
    """A command that does runs."""

    process: Process
    """Process of the command."""
    job: str | None
    """Id of the SLURM job that the command runs in; None outside SLURM."""

    def __str__(self) -> str:
        """Return the place of the command, for messages."""
        return f"SLURM job {self.job}" if self.job else f"process {self.process.pid} on {self.process.host}"


@contextlib.contextmanager
def announce_runs(study: Path) -> Iterator[Callable[[Iterable[str]], None]]:
    """Announce that this process does runs of a study, while the block runs.

    Yields a function; call it with the names of the runs that are still to be done.

    Args:
        study: `runs/<study>`.
    """
    folder, me = make_folder(study / FOLDER), Process.current()
    for path in folder.glob("*.json"):
        if _driver(read_json(path), path) is None:
            path.unlink(missing_ok=True)
    file = folder / f"{me.host}-{me.pid}-{secrets.token_hex(4)}.json"
    term = Term.here()
    facts = {"process": me.record(), "job": term.job if term else None}

    def announce(runs: Iterable[str]) -> None:
        write_json(file, {**facts, "runs": list(runs)})

    def beat() -> None:
        with contextlib.suppress(OSError):
            os.utime(file)

    try:
        with send_heartbeats(beat):
            yield announce
    finally:
        file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder holds records of other commands
            folder.rmdir()


def announced_runs(study: Path) -> dict[str, Driver]:
    """Return the runs of a study that live commands are doing or are going to do, each with its command."""
    found: dict[str, Driver] = {}
    for path in sorted((study / FOLDER).glob("*.json")):
        record = read_json(path)
        driver = _driver(record, path)
        if driver is not None:
            found |= dict.fromkeys(record["runs"], driver)
    return found


def _driver(record: Any, path: Path) -> Driver | None:
    """Return the command of a record; None if the command has ended."""
    if not isinstance(record, dict):
        return None
    process = Process.of(record["process"])
    return Driver(process=process, job=record["job"]) if is_alive(process, path) else None
