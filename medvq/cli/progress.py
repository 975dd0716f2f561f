"""Progress on stderr: bars on a terminal, otherwise a line from time to time."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from medvq.runs.spec import RunSpec
    from medvq.runs.state import RunStatus

EVERY = 10.0
"""Seconds between two lines if there is no terminal."""
Counting = Callable[[str, int, int], None]
"""Called with the phase of the work, the number of items done, and the number of all items."""


@contextlib.contextmanager
def counting(about: str) -> Iterator[Counting]:
    """Show progress while the block runs; yields a function to call with the progress.

    Args:
        about: name of the work, used while no phase is given.
    """
    if not sys.stderr.isatty():
        last = time.monotonic()

        def line(phase: str, done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > EVERY:
                last = time.monotonic()
                typer.echo(f"{phase or about}: {done} of {total}", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(about)

        def bar(phase: str, done: int, total: int) -> None:
            bars.update(task, description=phase or about, completed=done, total=total)

        yield bar


def line_of(progress: dict[str, Any]) -> str:
    """Return the content of progress.json as a few words."""
    parts = [f"epoch {progress['epoch']}/{progress['epochs']}"]
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.4f}")
    if progress.get("images_per_s") is not None:
        parts.append(f"{progress['images_per_s']:.0f} images/s")
    if progress.get("seconds_left") is not None and progress["phase"] == "training":
        parts.append(f"{clock(progress['seconds_left'])} left")
    if progress["phase"] != "training":
        parts = [progress["phase"]]
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Return a duration as a clock shows it: 71 is 1:11."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class RunProgress:
    """Shows the runs of a plan while they run and when they end."""

    def __init__(self, names: list[str]) -> None:
        self._width = max((len(n) for n in names), default=0)
        self._number = {name: i + 1 for i, name in enumerate(names)}
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> RunProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[line]}"))
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def starting(self, runs: int, workers: int, launcher: str) -> None:
        """Report that workers are being started for some runs."""
        name = {"ray": "Ray Train"}.get(launcher, launcher)
        how = f"{workers} {name} worker{'s' if workers > 1 else ''}" if workers else "this process"
        self.note(f"starting {how} for {runs} run{'s' if runs > 1 else ''}")

    def active(self, spec: RunSpec, status: RunStatus) -> None:
        """Show the progress of a running run."""
        if not status.progress:
            return
        if self._bars:
            if spec.run not in self._tasks:
                self._tasks[spec.run] = self._bars.add_task(self._name(spec), line="", total=status.progress["steps"])
            self._bars.update(self._tasks[spec.run], completed=status.progress["step"], line=line_of(status.progress))
        elif time.monotonic() - self._last.get(spec.run, 0.0) > EVERY:
            self._last[spec.run] = time.monotonic()
            self.note(f"{self._name(spec)}  {line_of(status.progress)}")

    def ended(self, spec: RunSpec, status: RunStatus) -> None:
        """Report that a run has ended."""
        if self._bars and spec.run in self._tasks:
            self._bars.remove_task(self._tasks.pop(spec.run))
        shown = [f"{k} {v:.4g}" for k, v in status.metrics.items() if k.startswith("test/")]
        words = ", ".join(shown[:4]) if status.state == "done" else status.reason or ""
        if status.failure:
            words = "\n".join([status.failure["error"], *status.failure["traceback"], f"log: {status.failure['log']}"])
        self.note(f"{self._name(spec)}  {status.state}  {words}".replace("\n", "\n    "))

    def note(self, text: str) -> None:
        """Print a message."""
        if self._bars:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            typer.echo(text, err=True)

    def _name(self, spec: RunSpec) -> str:
        number = f"[{self._number[spec.run]}/{len(self._number)}]"
        return f"{number:>8} {spec.run:<{self._width}}"
