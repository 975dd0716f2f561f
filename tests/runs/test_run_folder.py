"""The run folder: events survive torn lines, only the owner writes, and the state is derived from the files."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medvq.files import read_json, write_json
from medvq.runs import events, heartbeat, owner
from medvq.runs.folder import RunFolder
from medvq.runs.owner import Busy, LostOwnershipError, Ownership, Term, claim, holder_of
from medvq.runs.plan import last_plan, load_plan, save_plan
from medvq.runs.process import Process
from medvq.runs.state import status_of, with_needs


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def own(folder):
    owner = claim(folder.owner, Process.current())
    assert isinstance(owner, Ownership)
    return owner


def other_process():
    p = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    p.start()
    start = Path(f"/proc/{p.pid}/stat").read_text().rpartition(")")[2].split()[19]
    return p, Process(**{**Process.current().record(), "pid": p.pid, "start": start})


def test_a_torn_line_neither_hides_others_nor_swallows_the_next(folder):
    owner = own(folder)
    events.append(folder.events, owner, "epoch", epoch=1)
    with open(folder.events, "ab") as f:
        f.write(b'{"event": "epo')
    events.append(folder.events, owner, "epoch", epoch=2)
    assert [e["epoch"] for e in events.read(folder.events)] == [1, 2]


def test_of_two_lines_for_an_epoch_the_later_counts(folder):
    owner = own(folder)
    for metric in (1, 2):
        events.append(folder.events, owner, "epoch", epoch=1, metrics={"val/loss": metric})
    assert events.epochs(events.read(folder.events))[0]["metrics"] == {"val/loss": 2}


def test_a_live_owner_keeps_others_out_and_a_dead_one_does_not(folder):
    process, holder = other_process()
    try:
        first = claim(folder.owner, holder)
        assert isinstance(first, Ownership)
        assert claim(folder.owner, Process.current()) == Busy(host=holder.host, pid=holder.pid)
        assert holder_of(folder.owner) is not None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert holder_of(folder.owner) is None
    second = own(folder)
    assert second.attempt == first.attempt + 1


def test_who_lost_a_run_can_write_nothing(folder):
    process, holder = other_process()
    old = claim(folder.owner, holder)
    process.kill()
    process.join()
    own(folder)
    with pytest.raises(LostOwnershipError):
        events.append(folder.events, old, "epoch", epoch=1)
    assert not folder.events.exists()
    old.release()
    assert holder_of(folder.owner) is not None, "releasing what was lost must not free it"


def test_a_reused_process_id_is_not_the_same_process():
    now = Process.current()
    assert now.alive() is True
    assert Process(**{**now.record(), "start": "1"}).alive() is False
    assert Process(**{**now.record(), "boot": "other"}).alive() is None


def test_an_owner_on_another_machine_counts_while_it_gives_signs_of_life(folder):
    elsewhere = Process(**{**Process.current().record(), "boot": "other"})
    claim(folder.owner, elsewhere)
    assert holder_of(folder.owner) is not None
    past = time.time() - 3600
    os.utime(folder.owner, (past, past))
    assert holder_of(folder.owner) is None


def test_a_clock_that_is_ahead_takes_nothing_over(folder, monkeypatch):
    elsewhere = Process(**{**Process.current().record(), "boot": "other"})
    claim(folder.owner, elsewhere)
    ahead = time.time() + 3600
    monkeypatch.setattr(owner.time, "time", lambda: ahead)
    assert isinstance(claim(folder.owner, Process.current()), Busy)
    assert not list(folder.path.glob(".now-*"))


def test_attempts_are_numbered_on_where_the_file_was_lost(folder):
    own(folder).release()
    folder.owner.unlink()
    assert claim(folder.owner, Process.current(), known=4).attempt == 5


@pytest.fixture
def slow_beat(monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_EVERY", 0.02)


def test_an_owner_gives_signs_of_life_while_it_works(folder, slow_beat):
    mine = own(folder)
    past = time.time() - 3600
    with mine.send_heartbeats():
        os.utime(folder.owner, (past, past))
        end = time.monotonic() + 10
        while folder.owner.stat().st_mtime < past + 1:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_requeued_job_takes_its_run_over_from_processes_that_live_on(folder):
    process, holder = other_process()
    try:
        old = claim(folder.owner, holder, Term(job="7", restart=0))
        assert isinstance(claim(folder.owner, Process.current(), Term(job="8", restart=0)), Busy), "another job waits"
        assert isinstance(claim(folder.owner, Process.current()), Busy), "so does a terminal"
        new = claim(folder.owner, Process.current(), Term(job="7", restart=1))
        assert new.attempt == 2
        with pytest.raises(LostOwnershipError):
            events.append(folder.events, old, "epoch", epoch=1)
        new.release()
        assert isinstance(claim(folder.owner, holder, Term(job="7", restart=0)), Busy), "the ghost never gets it back"
        assert claim(folder.owner, Process.current()).attempt == 3, "a person may go on with it"
        assert isinstance(claim(folder.owner, Process.current(), Term(job="7", restart=0)), Busy)
    finally:
        process.kill()
        process.join()


def test_terms_follow_each_other_by_restart_and_by_submission():
    first = Term(job="7", restart=3, submission=1)
    assert Term(job="7", restart=4, submission=1).after(first)
    assert not Term(job="7", restart=3, submission=1).after(first)
    assert Term(job="5", restart=0, submission=2).after(first)
    assert not first.after(Term(job="5", restart=0, submission=2))
    assert not Term(job="9", restart=0).after(Term(job="8", restart=0))


def test_a_term_is_read_only_inside_a_slurm_job():
    inside = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SLURM_RESTART_COUNT": "2", "MEDVQ_SUBMISSION": "3"}
    assert Term.here(inside) == Term(job="7", restart=2, submission=3)
    assert Term.here({"SLURM_JOB_ID": "7"}) is None
    assert Term.here({}) is None


HANGS = """
import os, signal, sys
from medvq.runs.owner import Term, claim
from medvq.runs.process import Process
from pathlib import Path
mine = claim(Path(sys.argv[1]), Process.current(), Term(job="7", restart=0))
with mine.writing():
    print("in the middle of it", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
try:
    with mine.writing():
        print("wrote", flush=True)
except Exception as e:
    print(type(e).__name__, flush=True)
"""


def test_a_ghost_that_hangs_with_the_lock_does_not_keep_the_next_start_out(folder, monkeypatch):
    monkeypatch.setattr(owner, "PATIENCE", 0.3)
    command = [sys.executable, "-c", HANGS, str(folder.owner)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ghost:
        try:
            assert ghost.stdout.readline() == "in the middle of it\n"
            assert claim(folder.owner, Process.current()).pid == ghost.pid, "a person is told who has it"
            assert claim(folder.owner, Process.current(), Term(job="8", restart=0)).pid == ghost.pid
            mine = claim(folder.owner, Process.current(), Term(job="7", restart=1))
            assert mine.attempt == 2
            events.append(folder.events, mine, "attempt")
            ghost.send_signal(signal.SIGCONT)
            assert ghost.stdout.readline() == "LostOwnershipError\n"
        finally:
            ghost.kill()
    with mine.writing():
        pass
    assert not list(folder.path.glob(".owner-*"))


def test_a_torn_owner_file_belongs_to_nobody(folder):
    folder.owner.write_bytes(b'{"attempt": 3, "tok')
    assert own(folder).attempt == 1


def test_the_state_follows_from_the_folder(folder):
    assert status_of(folder).state == "planned"
    owner = own(folder)
    events.append(folder.events, owner, "attempt")
    assert status_of(folder).state == "running"
    owner.release()
    assert status_of(folder).state == "stopped"
    owner = own(folder)
    events.append(folder.events, owner, "attempt")
    events.append(folder.events, owner, "failed", error="x")
    owner.release()
    found = status_of(folder)
    assert (found.state, found.attempts, found.failure["error"]) == ("failed", 2, "x")
    write_json(folder.result, {"metrics": {"test/accuracy": 0.5}})
    assert status_of(folder).state == "done"
    assert status_of(folder).metrics == {"test/accuracy": 0.5}


def test_what_needs_a_failed_run_is_blocked_down_the_line(tmp_path):
    def fake(state):
        return type("S", (), {"state": state})()

    runs = [
        {"run": "a", "needs": {}},
        {"run": "b", "needs": {"init": {"run": "a"}}},
        {"run": "c", "needs": {"init": {"run": "b"}}},
        {"run": "d", "needs": {}},
    ]
    states = with_needs(runs, {"a": fake("failed"), "b": fake("planned"), "c": fake("planned"), "d": fake("planned")})
    assert states == {"a": "failed", "b": "blocked", "c": "blocked", "d": "planned"}


def test_the_same_plan_keeps_its_number(tmp_path):
    assert save_plan(tmp_path, {"runs": [1]}).number == 1
    assert save_plan(tmp_path, {"runs": [1]}).number == 1
    assert save_plan(tmp_path, {"runs": [2]}).number == 2
    assert last_plan(tmp_path).content == {"runs": [2]}


def test_plans_made_at_once_have_numbers_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: save_plan(tmp_path, {"runs": [n]}), range(24)))
    assert sorted(p.number for p in made) == list(range(1, 25))
    assert all(load_plan(tmp_path, p.number) == p for p in made)


def test_json_is_whole_or_not_there(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert read_json(tmp_path / "a.json") == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    (tmp_path / "b.json").write_text('{"x": ')
    assert read_json(tmp_path / "b.json") is None
    assert json.loads((tmp_path / "a.json").read_text())


def test_a_glance_at_events_leaves_out_only_epochs_that_another_one_follows(folder):
    mine = own(folder)
    for event in [("attempt", 0), ("epoch", 1), ("epoch", 2), ("checkpoint", 2), ("epoch", 3), ("epoch", 4)]:
        events.append(folder.events, mine, event[0], epoch=event[1])
    assert [e["epoch"] for e in events.read(folder.events, glance=True)] == [0, 2, 2, 4]
    assert len(events.read(folder.events)) == 6
