"""Worker groups: the processes that do a list of runs, one after the other.

Starting a group costs seconds; a list of runs pays for it once. A group that raises has left the failure in the run's
folder if the run was to blame; if it has not, a process died.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medvq.runs.folder import RunFolder
from medvq.runs.state import status_of
from medvq.train.run import Outcome, WorkItem, run_one
from medvq.train.world import World


@dataclass(frozen=True, kw_only=True)
class GroupSpec:
    """What a group is made of. Runs that agree on it can share one."""

    workers: int
    """Processes; 0 works in this one."""
    threads: int
    """CPU threads of each."""
    gpus: bool
    """One GPU for each worker."""


def work_through(items: Sequence[WorkItem], world: World, stop_file: Path) -> list[Outcome]:
    """Do the runs in order on this rank, until a stop is requested.

    One that fails ends the group, unless this process is alone and can go on with the next: ranks that wait for
    each other cannot, nor can a process whose GPU has raised an error, or that cannot write the failure down.
    """
    outcomes: list[Outcome] = []
    for item in items:
        if world.broadcast(stop_file.exists() if world.is_main else None):
            break
        stop_requested = _asks(stop_file, Path(item.folder) / "stop") if world.is_main else lambda: False
        try:
            outcomes.append(run_one(item, world, stop_requested))
        except Exception:
            if (
                world.size > 1
                or world.device.type != "cpu"
                or status_of(RunFolder(Path(item.folder))).state != "failed"
            ):
                raise
            outcomes.append("failed")
    return outcomes


def _asks(*files: Path) -> Callable[[], bool]:
    return lambda: any(f.exists() for f in files)


class WorkersError(RuntimeError):
    """A group of workers came to a bad end."""


class Group:
    """A list of runs under way in the background of this process."""

    def __init__(self, body: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(body,), daemon=True)
        self._thread.start()

    def _run(self, body: Callable[[], Any]) -> None:
        try:
            body()
        except BaseException as e:  # the thread that started the group decides what it means
            self.error = e

    def wait(self, timeout: float) -> bool:
        """Whether the group has ended within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()


class Launcher(Protocol):
    """What starts groups of workers, one at a time."""

    def start(self, items: Sequence[WorkItem], spec: GroupSpec, stop_file: Path) -> Group:
        """Begin to do the runs."""
        ...

    def close(self) -> None:
        """End all that was started."""
        ...


class InProcess:
    """Does runs in this process, without anything to start."""

    def start(self, items: Sequence[WorkItem], spec: GroupSpec, stop_file: Path) -> Group:
        """Begin to do the runs."""
        import torch

        device = torch.device("cuda" if spec.gpus else "cpu")
        world = World(device=device, threads=spec.threads, launcher="in-process")
        return Group(lambda: work_through(items, world, stop_file))

    def close(self) -> None:
        """There is nothing to end."""
