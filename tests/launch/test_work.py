"""Runs of a plan among several terminals."""

import dataclasses
import subprocess
import threading
import time

import pytest

from medvq.launch.plan import record
from medvq.launch.room import Room
from medvq.launch.watch import Stop, Watch
from medvq.launch.work import Work
from medvq.runs import events
from medvq.runs.atomic import write_json
from medvq.runs.owner import claim
from medvq.runs.process import Process, _start

QUIET = Watch(active=lambda *_: None, ended=lambda *_: None, note=lambda _: None)


@pytest.fixture
def other():
    """Another terminal, as far as owners of runs are concerned."""
    with subprocess.Popen(["sleep", "60"]) as process:
        here = Process.current()
        yield dataclasses.replace(here, pid=process.pid, start=_start(process.pid))
        process.kill()


def test_a_folder_that_cannot_be_written_ends_the_command(cli, smear, tmp_path, text):
    """Without an attempt on disk the run looked as if it had never begun, and was begun again for ever."""
    (tmp_path / "s.yaml").write_text(text)
    arguments = ("run", "s.yaml", "--only", "alone", "--workers", 0, "--data", f"cells={smear}")
    (run,) = cli.json(*arguments, "--dry-run")["runs"]
    (tmp_path / run["folder"]).mkdir(parents=True)
    (tmp_path / run["folder"] / "logs").write_text("in the way")
    said = cli(*arguments, code=1).stderr_text
    assert f"{run['folder']}/logs: cannot make this folder" in said
    (tmp_path / run["folder"] / "logs").unlink()
    for attempt in range(1, 9):
        (tmp_path / run["folder"] / "logs" / f"attempt-{attempt}-rank-0.log").mkdir(parents=True)
    said = cli(*arguments, code=1).stderr_text
    assert "rank-0.log: the run folder cannot be written: Is a directory" in said


def test_what_another_terminal_began_meanwhile_is_waited_for(planned, other, tmp_path):
    """It was taken for an attempt of this one that had come to nothing, and the command ended with exit 6."""
    plan = planned(only=["alone"])
    record(plan)
    (spec,) = plan.runs
    folder = plan.folder_of(spec)
    work = Work(plan, [spec], Stop(tmp_path / "stop"), QUIET, Room(cores=1, gpus=0), 1)
    slot = work.slots[0]
    slot.batch, slot.before = [spec], {spec.run: 0}
    owner = claim(folder.owner, other)
    events.append(folder.events, owner, "attempt", host=other.host, hosts=[other.host], pid=other.pid)
    work._settle(slot, None)
    assert work.given_up == set()

    def finish():
        time.sleep(0.5)
        write_json(folder.result, {"metrics": {}})

    begun = time.monotonic()
    threading.Thread(target=finish).start()
    work.do()
    assert 0.3 < time.monotonic() - begun < 30
    assert folder.result.exists()
