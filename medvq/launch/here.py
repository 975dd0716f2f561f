"""Doing a plan on this machine: what is done stays done, what stopped goes on, what failed is tried again."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medvq.launch.plan import Runs
from medvq.launch.room import measure, side_by_side
from medvq.launch.slurm.allocation import allocation
from medvq.runs.atomic import make_folder
from medvq.runs.process import Process
from medvq.runs.spec import RunSpec
from medvq.runs.state import RunStatus, status_of


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


def run_here(plan: Runs, stop: Stop, watch: Watch, parallel: int | Literal["auto"] = 1) -> dict[str, RunStatus]:
    """Do every run of the plan that is not done, `parallel` at a time, and return the state of all.

    Raises:
        MedvqError: workers cannot be started at all.
    """
    todo = [spec for spec in plan.runs if status_of(plan.folder_of(spec)).state != "done"]
    if todo:
        from medvq.launch.work import Work

        room = measure()
        Work(plan, todo, stop, watch, room, side_by_side(parallel, todo, room)).do()
    return {spec.run: status_of(plan.folder_of(spec)) for spec in plan.runs}
