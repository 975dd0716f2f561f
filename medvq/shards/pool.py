"""Run tasks in worker processes that do not outlive the one that started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_all_start_methods, get_context
from typing import TypeVar

from medvq.config.errors import MedvqError

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """Cores this process may use: those of its SLURM job or container, not all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """`processes` workers, started when first needed; with 1 everything runs here."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def start(self) -> None:
        """Start the workers now, so that they are there when there is work."""
        if self.processes > 1 and self._executor is None:
            # Forked workers start at once and share what is imported; they touch no thread of the parent.
            context = get_context("fork" if "fork" in get_all_start_methods() else None)
            self._executor = ProcessPoolExecutor(self.processes, context, _start_worker, (os.getpid(),))
            self._executor.submit(os.getpid)

    def dismiss(self) -> None:
        """No work will follow: the workers end while this process goes on."""
        if self._executor:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def results(self, do: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """(position, result) of each task, in the order in which they end.

        Raises:
            MedvqError: a worker was killed; whatever `do` raises.
        """
        if self.processes == 1 or len(tasks) < 2:
            yield from ((i, do(task)) for i, task in enumerate(tasks))
            return
        self.start()
        assert self._executor is not None
        try:
            yield from _in_flight(self._executor, do, enumerate(tasks), 4 * self.processes)
        except BrokenProcessPool as e:
            raise MedvqError(
                "a worker process was killed, perhaps because memory ran out",
                hint="give fewer --processes, or lower max_pixels in the recipe",
            ) from e


def _in_flight(
    executor: ProcessPoolExecutor, do: Callable[[T], R], tasks: Iterable[tuple[int, T]], most: int
) -> Iterator[tuple[int, R]]:
    todo = iter(tasks)
    running = {executor.submit(do, task): i for i, task in islice(todo, most)}
    while running:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield running.pop(future), future.result()
            for i, task in islice(todo, 1):
                running[executor.submit(do, task)] = i


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
