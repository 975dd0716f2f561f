"""Run the tasks of a packing in forked processes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from medvq.processes import Pool, Ticket

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2
"""Tasks given to each worker before results are asked for: the one it works on, and the next."""


@contextmanager
def working(do: Callable[[T], R], tasks: Sequence[T], processes: int) -> Iterator[Iterator[tuple[int, R]]]:
    """Begin on `tasks` and yield an iterator over (position, result), in the order in which tasks end.

    Workers are forked with the tasks in their memory: they are sent positions and send results back. `do` may be any
    function. With one process, or one task, each task is done in this process when its result is asked for.

    Raises:
        MedvqError: a worker was killed. Whatever `do` raises.
    """
    processes = min(processes, len(tasks))
    if processes < 2:
        yield ((i, do(task)) for i, task in enumerate(tasks))
        return
    pool: Pool[int, R] = Pool(
        processes,
        lambda place: do(tasks[place]),
        name="packing",
        hint="perhaps memory ran out: give fewer --processes, or lower max_pixels in the recipe",
    )
    with pool:
        todo = iter(range(len(tasks)))
        given = {pool.submit(place): place for place in islice(todo, AHEAD * processes)}
        yield _results(pool, given, todo)


def _results(pool: Pool[int, R], given: dict[Ticket[R], int], todo: Iterator[int]) -> Iterator[tuple[int, R]]:
    while given:
        for ticket in pool.wait_any():
            result = ticket.result()
            for place in islice(todo, 1):
                given[pool.submit(place)] = place
            yield given.pop(ticket), result


@contextmanager
def uncollected() -> Iterator[None]:
    """Turn off the garbage collector, which would search all objects of a large source for cycles again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
