"""Children end with their parent, and a pool says when one of its processes is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medvq.errors import DataError, MedvqError
from medvq.processes import Pool, end_with_parent


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def becomes(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("started", ["forked", "executed"])
def test_a_child_ends_with_a_parent_that_is_killed(started: str) -> None:
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        if started == "forked":
            me = os.getpid()
            child = os.fork()
            if child == 0:
                end_with_parent(me)
                os.write(write, f"{os.getpid()}\n".encode())
                time.sleep(30)
                os._exit(3)
        else:
            text = "import os, time; from medvq.processes import end_with_parent; end_with_parent(); "
            text += "print(os.getpid(), flush=True); time.sleep(30)"
            subprocess.Popen([sys.executable, "-c", text], stdout=write)
        time.sleep(30)
        os._exit(3)
    child = int(os.read(read, 100))
    assert running(child)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert becomes(lambda: not running(child))


def test_a_child_whose_parent_was_gone_before_it_looked_ends_too() -> None:
    child = os.fork()
    if child == 0:
        end_with_parent(os.getpid())  # no process is its own parent
        time.sleep(30)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_another_condition_ends_a_child(tmp_path: Path) -> None:
    here = os.getpid()
    child = os.fork()
    if child == 0:
        end_with_parent(here, alive=lambda: not (tmp_path / "stop").exists())
        time.sleep(30)
        os._exit(3)
    (tmp_path / "stop").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def pool_of(count: int, do: Callable[[int], object]) -> Pool[int, object]:
    return Pool(count, do, name="test", hint="start again")


def test_tasks_are_shared_out_and_done_out_of_order() -> None:
    with pool_of(2, lambda n: (n, os.getpid())) as pool:
        tickets = [pool.submit(n) for n in range(6)]
        found = [pool.wait(ticket) for ticket in reversed(tickets)]
    assert [n for n, _ in found] == [5, 4, 3, 2, 1, 0]
    assert {pid for _, pid in found} == set(pool.pids)
    assert not any(map(running, pool.pids))


def test_a_process_that_dies_is_an_error_and_not_a_hang() -> None:
    with pool_of(2, lambda n: time.sleep(30)) as pool:
        ticket = pool.submit(0)
        os.kill(pool.pids[ticket.worker], signal.SIGKILL)
        with pytest.raises(MedvqError, match=r"test process 0 ended unexpectedly \(exit code -9\)") as e:
            pool.wait(ticket)
        assert e.value.hint == "start again"
        with pytest.raises(MedvqError, match="ended unexpectedly"):
            pool.wait_any()
        os.kill(pool.pids[1], signal.SIGKILL)


class Odd(Exception):
    """Cannot be unpickled: its argument is not what it was made with."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def test_errors_arrive_as_they_were() -> None:
    errors = [DataError("bad", where="here", hint="mend it"), ValueError("odd"), Odd(1, 2)]

    def fail(n: int) -> None:
        raise errors[n]

    with pool_of(1, fail) as pool:
        with pytest.raises(DataError) as e:
            pool.wait(pool.submit(0))
        assert (e.value.error, e.value.where, e.value.hint) == ("bad", "here", "mend it")
        with pytest.raises(ValueError, match="odd") as other:
            pool.wait(pool.submit(1))
        assert "in fail" in other.value.__notes__[0]
        with pytest.raises(MedvqError, match="Odd: 1 and 2"):
            pool.wait(pool.submit(2))


def test_signals_for_the_whole_job_do_not_end_the_processes() -> None:
    with pool_of(1, lambda n: n) as pool:
        assert pool.wait(pool.submit(1)) == 1
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(pool.pids[0], name)
        assert pool.wait(pool.submit(2)) == 2


def test_a_pool_that_is_forgotten_ends_its_processes() -> None:
    pool = pool_of(2, lambda n: n)
    pids = pool.pids
    del pool
    assert becomes(lambda: not any(map(running, pids)))
