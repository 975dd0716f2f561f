"""Requests to stop, and what a person who waits is told."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medvq.files import make_folder
from medvq.launch.slurm.allocation import allocation
from medvq.runs.process import Process
from medvq.runs.spec import RunSpec
from medvq.runs.state import RunStatus

CANCEL = ".cancel"


@dataclass
class Stop:
    """A request to stop, from a signal handler to the workers."""

    file: Path
    asked: bool = False

    def ask(self) -> None:
        """Ask every worker to write a checkpoint and stop."""
        self.asked = True
        with contextlib.suppress(FileNotFoundError):  # the last group has just ended
            self.file.touch()


@dataclass
class Watch:
    """What a person who waits is told."""

    active: Callable[[RunSpec, RunStatus], None]
    """The state of a run under way, a few times a second."""
    ended: Callable[[RunSpec, RunStatus], None]
    """A run has come to an end, good or bad."""
    note: Callable[[str], None]
    """A line of talk."""
    starting: Callable[[int, int, str], None] = field(default=lambda runs, workers, launcher: None)
    """A group of workers is being started for some runs."""


def cancel_study(folder: Path) -> None:
    """Ask those who do runs of a study outside SLURM to stop."""
    (folder / CANCEL).touch()


def cancelled(folder: Path) -> int | None:
    """Changes when somebody asks by `cancel_study`; SLURM has its own way, and would start a job again."""
    file = folder / CANCEL
    return file.stat().st_mtime_ns if allocation() is None and file.exists() else None


@contextlib.contextmanager
def stopping(shared: Path) -> Iterator[Stop]:
    """A stop request with a place of its own; inside a SLURM job it is in `shared`, which every node sees."""
    given = allocation()
    if given is None:
        process = Process.current()
        with tempfile.TemporaryDirectory(prefix=f"medvq-{process.pid}-{process.start}-stop-") as folder:
            yield Stop(Path(folder) / "stop")
        return
    # A start of the job that was killed may have left its own; old processes that live on must not stop this one.
    for left in make_folder(shared).glob(f".stop-{given.job}-*"):
        left.unlink(missing_ok=True)
    file = shared / f".stop-{given.job}-{given.restart}"
    try:
        yield Stop(file)
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def limited(stop: Stop, watch: Watch, seconds: float | None) -> Iterator[None]:
    """Ask to stop when so many seconds have passed."""

    def end() -> None:
        stop.ask()
        watch.note("the time budget is used up: writing a checkpoint and stopping")

    timer = threading.Timer(seconds or 0, end)
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
