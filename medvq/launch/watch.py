"""Requests to stop a command, and the progress that it reports to a person."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medvq.files import make_folder
from medvq.launch.allocation.allocation import allocation
from medvq.runs.process import Process
from medvq.runs.spec import RunSpec
from medvq.runs.state import RunStatus

CANCEL = ".cancel"


@dataclass
class Stop:
    """A request to stop, which a signal handler passes on to the workers."""

    file: Path
    """Workers stop if this file exists."""
    asked: bool = False
    """Whether a stop was requested."""

    def ask(self) -> None:
        """Request that every worker writes a checkpoint and stops."""
        self.asked = True
        with contextlib.suppress(FileNotFoundError):  # the last group has just ended, and removed the folder
            self.file.touch()


@dataclass
class Watch:
    """Callbacks that report progress to a person."""

    active: Callable[[RunSpec, RunStatus], None]
    """Called with the status of a running run, a few times a second."""
    ended: Callable[[RunSpec, RunStatus], None]
    """Called when a run is done, has failed or was stopped."""
    note: Callable[[str], None]
    """Called with a line of text."""
    starting: Callable[[int, int, str], None] = field(default=lambda runs, workers, launcher: None)
    """Called with (runs, workers, launcher) when a group of workers is started."""


def cancel_study(folder: Path) -> None:
    """Request that commands which do runs of a study outside of SLURM stop."""
    (folder / CANCEL).touch()


def cancelled(folder: Path) -> int | None:
    """Return a value that changes when `cancel_study` is called; None inside SLURM jobs, which SLURM cancels itself."""
    file = folder / CANCEL
    return file.stat().st_mtime_ns if allocation() is None and file.exists() else None


@contextlib.contextmanager
def stopping(shared: Path) -> Iterator[Stop]:
    """Give a stop request with a file of its own; inside a SLURM job the file is in `shared`, which every node sees."""
    given = allocation()
    if given is None:
        process = Process.current()
        with tempfile.TemporaryDirectory(prefix=f"medvq-{process.pid}-{process.start}-stop-") as folder:
            yield Stop(Path(folder) / "stop")
        return
    # An earlier start of the job that was killed may have left its file. Each start has another name, so that
    # processes of an earlier start that still live do not see this one.
    for left in make_folder(shared).glob(f".stop-{given.job}-*"):
        left.unlink(missing_ok=True)
    file = shared / f".stop-{given.job}-{given.restart}"
    try:
        yield Stop(file)
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def limited(stop: Stop, watch: Watch, seconds: float | None) -> Iterator[None]:
    """Request a stop after `seconds`; None sets no limit."""

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
