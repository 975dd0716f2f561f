"""Worker groups: processes that do a list of runs, one after the other.

Starting a group takes seconds, so that it is done once for a list of runs. When a group raises an error, look into the
folder of the run: if the run itself failed, the failure is recorded there. If it is not, a process died.
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
    """The size of a group and what each worker gets. Runs with equal specs can share a group."""

    workers: int
    """Number of processes; 0 trains in the current process."""
    threads: int
    """CPU threads of each worker."""
    gpus: bool
    """Whether each worker gets a GPU."""


def work_through(items: Sequence[WorkItem], world: World, stop_file: Path) -> list[Outcome]:
    """Do the runs in order on this rank, until a stop is requested, and return their outcomes.

    A run that fails ends the group, except in a group of one CPU process that could record the failure. Several ranks
    cannot continue, because they may wait for each other. A process whose GPU has raised an error cannot either.

    Raises:
        Exception: the error of the run that ended the group.
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
    """A worker group ended with an error."""


class Group:
    """A list of runs that are being done in a background thread of this process."""

    def __init__(self, body: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(body,), daemon=True)
        self._thread.start()

    def _run(self, body: Callable[[], Any]) -> None:
        try:
            body()
        except BaseException as e:  # handled by the thread that started the group
            self.error = e

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds, and return whether the group has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()


class Launcher(Protocol):
    """Starts worker groups, one at a time."""

    def start(self, items: Sequence[WorkItem], spec: GroupSpec, stop_file: Path) -> Group:
        """Start doing the runs, and return at once."""
        ...

    def close(self) -> None:
        """End every process that was started."""
        ...


class InProcess:
    """Does runs in the current process."""

    def start(self, items: Sequence[WorkItem], spec: GroupSpec, stop_file: Path) -> Group:
        """Start doing the runs in a thread, and return at once."""
        import torch

        device = torch.device("cuda" if spec.gpus else "cpu")
        world = World(device=device, threads=spec.threads, launcher="in-process")
        return Group(lambda: work_through(items, world, stop_file))

    def close(self) -> None:
        """Do nothing: there are no other processes."""
