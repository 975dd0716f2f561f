"""Run tasks in forked processes that do not outlive the one that started them."""

from __future__ import annotations

import gc
import os
import signal
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

from medvq.errors import MedvqError

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 4
"""Tasks that are given out before they are begun, for each worker."""
_FORK = get_context("fork")
_PLACE = struct.Struct("=q")


def usable_cores() -> int:
    """Cores this process may use: those of its SLURM job or container, not all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def working(do: Callable[[T], R], tasks: Sequence[T], processes: int) -> Iterator[Iterator[tuple[int, R]]]:
    """Begin on `tasks`; gives (position, result) of each, in the order in which they end.

    Workers are forked with the tasks in their memory: they are told positions and send results. `do` may be any
    function. With one process, or one task, it is done here, when the result is asked for.

    Raises:
        MedvqError: a worker was killed; whatever `do` raises.
    """
    processes = min(processes, len(tasks))
    if processes < 2:
        yield ((i, do(task)) for i, task in enumerate(tasks))
        return
    todo, tell = os.pipe()
    workers: dict[Connection, ForkProcess] = {}
    try:
        for _ in range(processes):
            ours, theirs = _FORK.Pipe(duplex=False)
            worker = _FORK.Process(target=_serve, args=(os.getpid(), todo, theirs, (tell, ours, *workers), do, tasks))
            worker.start()
            theirs.close()
            workers[ours] = worker
        given = _tell(tell, 0, min(len(tasks), AHEAD * processes))
        yield _received(tell, list(workers), given, len(tasks))
    except BaseException:
        for worker in workers.values():
            worker.kill()
            worker.join()  # so that nothing more is written
        raise
    finally:
        # At this the workers end.
        for end in (todo, tell):
            os.close(end)
        for pipe in workers:
            pipe.close()


def _tell(tell: int, start: int, stop: int) -> int:
    os.write(tell, b"".join(map(_PLACE.pack, range(start, stop))))
    return stop


def _received(tell: int, pipes: list[Connection], given: int, tasks: int) -> Iterator[tuple[int, Any]]:
    done = 0
    while done < tasks:
        for pipe in wait(pipes):
            assert isinstance(pipe, Connection)
            try:
                place, result, error = pipe.recv()
            except (EOFError, OSError) as e:
                raise MedvqError(
                    "a worker process was killed, perhaps because memory ran out",
                    hint="give fewer --processes, or lower max_pixels in the recipe",
                ) from e
            if error is not None:
                raise error
            done += 1
            if given < tasks:
                given = _tell(tell, given, given + 1)
            yield place, result


def _serve(
    parent: int, todo: int, pipe: Connection, others: tuple[Any, ...], do: Callable[[T], R], tasks: Sequence[T]
) -> None:
    """Leave Ctrl-C to the parent, and end when it is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    for end in others:
        os.close(end) if isinstance(end, int) else end.close()
    gc.freeze()  # what was inherited is looked after elsewhere
    gc.enable()
    # Of a pipe with several readers each position is read by one.
    while told := os.read(todo, _PLACE.size):
        (place,) = _PLACE.unpack(told)
        try:
            pipe.send((place, do(tasks[place]), None))
        except Exception as e:
            if not isinstance(e, MedvqError):
                e.add_note("".join(traceback.format_exception(e)))
            pipe.send((place, None, e))


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's search for cycles, which looks through all that is kept again whenever more of it is made."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
