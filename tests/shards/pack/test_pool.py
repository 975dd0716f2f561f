"""Tasks in forked workers: each runs once, whatever their number, and no worker survives an error."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from medvq.errors import DataError
from medvq.shards.pack.pool import AHEAD, uncollected, working


def alive() -> list[object]:
    return [p for p in multiprocessing.active_children() if p.name.startswith("medvq-packing")]


@pytest.mark.parametrize("processes", [1, 2, 5])
@pytest.mark.parametrize("tasks", [0, 1, 3, 7 * AHEAD])
def test_each_task_is_done_once(processes: int, tasks: int) -> None:
    with working(lambda n: n * n, range(tasks), processes) as results:
        assert dict(results) == {n: n * n for n in range(tasks)}


def test_workers_begin_before_they_are_asked_and_end_afterwards(tmp_path: Path) -> None:
    with working(lambda n: (tmp_path / str(n)).touch(), range(4), 2) as results:
        until = time.monotonic() + 20
        while len(list(tmp_path.iterdir())) < 4 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(list(tmp_path.iterdir())) == 4
        assert len(list(results)) == 4
    until = time.monotonic() + 20
    while alive() and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive()


def test_an_error_arrives_and_nobody_works_on(tmp_path: Path) -> None:
    def do(n: int) -> None:
        if n == 3:
            raise DataError("bad", where="here", hint="mend it")
        time.sleep(0.01)
        (tmp_path / str(n)).touch()

    with pytest.raises(DataError) as e, working(do, range(10_000), 2) as results:
        list(results)
    assert (e.value.error, e.value.where, e.value.hint) == ("bad", "here", "mend it")
    assert not alive()
    left = len(list(tmp_path.iterdir()))
    time.sleep(0.1)
    assert len(list(tmp_path.iterdir())) == left


def test_a_fault_of_ours_says_where_it_was() -> None:
    def stumble(n: int) -> float:
        return 1 / n

    with pytest.raises(ZeroDivisionError) as e, working(stumble, range(2), 2) as results:
        list(results)
    assert "stumble" in e.value.__notes__[0]


def test_an_error_of_the_caller_ends_the_workers() -> None:
    with pytest.raises(KeyError), working(lambda n: time.sleep(60), range(8), 2):
        raise KeyError
    assert not alive()


def test_the_collector_rests_and_is_then_as_it_was() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with working(lambda n: (gc.isenabled(), os.getpid()), range(2), 2) as results:
            found = [result for _, result in results]
        assert all(enabled and pid != os.getpid() for enabled, pid in found)
    assert gc.isenabled()
