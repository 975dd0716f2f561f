"""Child processes that do not outlive their parent, and a pool of them.

A killed parent cannot end its children. So every child looks at regular intervals whether its parent is still there,
and ends itself when it is not.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context, util
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from medvq.errors import MedvqError

Task = TypeVar("Task")
Result = TypeVar("Result")

LOOK = 0.2
"""Seconds between two looks at the parent."""
_FORK = get_context("fork")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""A terminal and SLURM send these to every process of a job. Only the parent decides what they mean."""


def usable_cores() -> int:
    """Return the number of cores this process may use: those of its SLURM job or container, not of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent(parent: int | None = None, *, alive: Callable[[], bool] = lambda: True) -> None:
    """End this process, without cleaning up, as soon as its parent is gone.

    Args:
        parent: process id of the parent; None: the parent at the time of the call. A forked child should be given the
            id, because its parent may die before the call.
        alive: another condition to go on. It is called in a thread, every `LOOK` seconds.
    """
    expected = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == expected and alive():
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="medvq-end-with-parent").start()


class Ticket(Generic[Result]):
    """A task that was given to a pool."""

    def __init__(self, number: int, worker: int) -> None:
        self.number, self.worker = number, worker
        self.done = False
        self._result: Any = None
        self._error: BaseException | None = None

    def result(self) -> Result:
        """Return what the task returned, or raise what it raised; the ticket must be done."""
        if self._error is not None:
            raise self._error
        result: Result = self._result
        return result

    def answer(self, result: Any, error: BaseException | None) -> None:
        """Take the outcome of the task."""
        self.done, self._result, self._error = True, result, error


class Pool(Generic[Task, Result]):
    """A fixed number of forked processes that call `do` on the tasks they are given.

    `do` and all it refers to is in the memory of the processes since the fork; only tasks and results are pickled. The
    processes ignore Ctrl-C and SIGTERM, and end with this one.
    """

    def __init__(
        self,
        count: int,
        do: Callable[[Task], Result],
        *,
        name: str,
        hint: str,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the processes.

        Args:
            count: number of processes.
            do: called with each task, in a child process.
            name: what the processes are called in messages, such as "loader".
            hint: what to do when a process dies.
            begin: called once in every child process.
        """
        self._name, self._hint = name, hint
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._waiting: list[dict[int, Ticket[Result]]] = [{} for _ in range(count)]
        self._numbers = itertools.count()
        for i in range(count):
            ours, theirs = _FORK.Pipe()
            process = _FORK.Process(
                target=_serve, args=(os.getpid(), theirs, do, begin), name=f"medvq-{name}-{i}", daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        # Runs when this object is collected or, at exit, before multiprocessing waits for its children.
        self._finalizer = util.Finalize(self, _stop, args=(self._pipes, self._processes), exitpriority=20)

    def __enter__(self) -> Pool[Task, Result]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for process in self._processes:
                process.kill()
        self.close()

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        return [process.pid for process in self._processes if process.pid is not None]

    def submit(self, task: Task) -> Ticket[Result]:
        """Give `task` to the process with the fewest tasks waiting.

        Raises:
            MedvqError: that process died.
        """
        worker = min(range(len(self._pipes)), key=lambda w: len(self._waiting[w]))
        ticket: Ticket[Result] = Ticket(next(self._numbers), worker)
        try:
            self._pipes[worker].send((ticket.number, task))
        except OSError as e:
            raise self._died(worker) from e
        self._waiting[worker][ticket.number] = ticket
        return ticket

    def wait(self, ticket: Ticket[Result]) -> Result:
        """Wait until `ticket` is done and return its result.

        Raises:
            MedvqError: the process died. Whatever `do` raises.
        """
        while not ticket.done:
            self._receive(ticket.worker)
        return ticket.result()

    def wait_any(self) -> list[Ticket[Result]]:
        """Wait until at least one task is done and return the tickets of those that are.

        Raises:
            MedvqError: a process died.
        """
        busy = {self._pipes[w]: w for w, tickets in enumerate(self._waiting) if tickets}
        return [self._receive(busy[pipe]) for pipe in wait(list(busy)) if isinstance(pipe, Connection)]

    def close(self) -> None:
        """End the processes, after the tasks they are working on."""
        self._finalizer()

    def _receive(self, worker: int) -> Ticket[Result]:
        try:
            number, result, error = self._pipes[worker].recv()
        except (EOFError, OSError) as e:
            raise self._died(worker) from e
        ticket = self._waiting[worker].pop(number)
        ticket.answer(result, error)
        return ticket

    def _died(self, worker: int) -> MedvqError:
        process = self._processes[worker]
        process.join(timeout=5)
        return MedvqError(
            f"{self._name} process {worker} ended unexpectedly (exit code {process.exitcode})", hint=self._hint
        )


def _stop(pipes: list[Connection], processes: list[BaseProcess]) -> None:
    for pipe in pipes:
        # Closing is not enough: processes that were forked since hold the pipe open too.
        with contextlib.suppress(OSError):
            pipe.send(None)
        pipe.close()
    for process in processes:
        process.join(timeout=10)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(parent: int, pipe: Connection, do: Callable[[Any], Any], begin: Callable[[], None]) -> None:
    for name in _SIGNALS:
        signal.signal(name, signal.SIG_IGN)
    end_with_parent(parent)
    gc.freeze()  # objects of the parent are not collected here, and their pages stay shared
    gc.enable()
    begin()
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            return
        if message is None:
            return
        number, task = message
        result, error = None, None
        try:
            result = do(task)
        except Exception as e:
            error = _picklable(e)
        try:
            pipe.send((number, result, error))
        except OSError:
            return


def _picklable(error: Exception) -> Exception:
    """Return `error` with its traceback as a note, or a MedvqError with its text if it cannot be pickled."""
    if isinstance(error, MedvqError):
        return error
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # classes with arguments of their own often fail one way or the other
        return MedvqError(f"{type(error).__name__}: {error}")
    return error
