"""Runs of a plan among several terminals."""

import dataclasses
import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from medvq.errors import MedvqError
from medvq.files import write_json
from medvq.launch.capacity import Capacity
from medvq.launch.plan import record
from medvq.launch.scheduler import LocalScheduler
from medvq.launch.watch import Stop, Watch
from medvq.runs import events
from medvq.runs.owner import LostOwnershipError, claim
from medvq.runs.process import Process, _start
from medvq.runs.state import status_of
from medvq.workers.group import WorkersError

QUIET = Watch(active=lambda *_: None, ended=lambda *_: None, note=lambda _: None)


@pytest.fixture
def other():
    """Another process that can own runs, as a second terminal would be."""
    with subprocess.Popen(["sleep", "60"]) as process:
        here = Process.current()
        yield dataclasses.replace(here, pid=process.pid, start=_start(process.pid))
        process.kill()


def test_a_folder_that_cannot_be_written_ends_the_command(cli, smear, tmp_path, text):
    """Regression: without an attempt on disk the run seemed never begun, and was started again for ever."""
    (tmp_path / "s.yaml").write_text(text)
    arguments = ("run", "s.yaml", "--only", "alone", "--workers", 0, "--data", f"cells={smear}")
    (run,) = cli.json(*arguments, "--dry-run")["runs"]
    (tmp_path / run["folder"]).mkdir(parents=True)
    (tmp_path / run["folder"] / "logs").write_text("in the way")
    said = cli(*arguments, code=1).stderr_text
    assert f"{run['folder']}/logs: cannot create this folder" in said
    (tmp_path / run["folder"] / "logs").unlink()
    for attempt in range(1, 9):
        (tmp_path / run["folder"] / "logs" / f"attempt-{attempt}-rank-0.log").mkdir(parents=True)
    said = cli(*arguments, code=1).stderr_text
    assert "rank-0.log: the run folder cannot be written: Is a directory" in said


def test_what_another_terminal_began_meanwhile_is_waited_for(planned, other, tmp_path):
    """Regression: it was taken for a failed attempt of this process, and the command ended with exit code 6."""
    plan = planned(only=["alone"])
    record(plan)
    (spec,) = plan.runs
    folder = plan.folder_of(spec)
    scheduler = LocalScheduler(plan, [spec], Stop(tmp_path / "stop"), QUIET, Capacity(cores=1, gpus=0), 1)
    slot = scheduler.slots[0]
    slot.batch, slot.attempts_before = [spec], {spec.run: 0}
    owner = claim(folder.owner, other)
    events.append(folder.events, owner, "attempt", host=other.host, hosts=[other.host], pid=other.pid)
    scheduler.settle(slot, None)
    assert scheduler.recovery.given_up == set()

    def finish():
        time.sleep(0.5)
        write_json(folder.result, {"metrics": {}})

    begun = time.monotonic()
    threading.Thread(target=finish).start()
    scheduler.run()
    assert 0.3 < time.monotonic() - begun < 30
    assert folder.result.exists()


def test_workers_that_die_count_against_the_run_that_they_worked_on(planned, tmp_path):
    """Regression: an earlier run that a person had stopped was started again, and the dead one was given up."""
    plan = planned()
    record(plan)
    said = []
    watch = dataclasses.replace(QUIET, note=said.append)
    scheduler = LocalScheduler(plan, plan.runs, Stop(tmp_path / "stop"), watch, Capacity(cores=1, gpus=0), 1)
    slot, (first, second, *_) = scheduler.slots[0], plan.runs
    slot.batch, slot.attempts_before = plan.runs, {s.run: 0 for s in plan.runs}
    for spec in (first, second):
        folder = plan.folder_of(spec)
        owner = claim(folder.owner, Process.current())
        events.append(folder.events, owner, "attempt", host="h", hosts=["h"], pid=1)
        if spec is first:
            events.append(folder.events, owner, "stopped", step=3, reason="asked to stop")
            owner.release()
    dead = plan.folder_of(second)
    dead.progress.write_text("{}")
    scheduler.settle(slot, WorkersError("a process died"))
    assert scheduler.recovery.given_up == {first.run}
    assert scheduler.recovery.deaths == {second.run: 1}
    assert said == [f"{second.run}: a process died; starting again from the last checkpoint"]
    assert status_of(dead).state == "stopped", "nobody works on it"
    assert not dead.progress.exists()
    with pytest.raises(LostOwnershipError):
        events.append(dead.events, owner, "epoch", epoch=1)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), WorkersError("No space left on device")]
)
def test_a_full_disk_ends_the_command_and_not_the_run(planned, tmp_path, error):
    plan = planned(only=["alone"])
    record(plan)
    (spec,) = plan.runs
    scheduler = LocalScheduler(plan, [spec], Stop(tmp_path / "stop"), QUIET, Capacity(cores=1, gpus=0), 1)
    scheduler.slots[0].batch, scheduler.slots[0].attempts_before = [spec], {spec.run: 0}
    with pytest.raises(MedvqError, match="cannot be written: No space left") as e:
        scheduler.settle(scheduler.slots[0], error)
    assert "free some space" in e.value.hint


MOUNTED = """
mkdir runs
mount -t tmpfs -o size=400k none runs
"$0" -c "from medvq.cli import main; main()" run s.yaml --only alone --workers 0 --data "cells=$1"
echo "exit $?"
ls -A runs/s/alone-*/checkpoints
"""


def test_a_disk_that_is_full_at_a_checkpoint_stops_the_run(smear, tmp_path, text):
    private = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    if subprocess.run([*private, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounts of one's own are not allowed here")
    (tmp_path / "s.yaml").write_text(text)
    command = [*private, "sh", "-c", MOUNTED, sys.executable, str(smear)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout.splitlines() == ["exit 1"], done.stderr
    assert "cannot be written: No space left on device" in done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_go_side_by_side_is_refused_and_leaves_no_plan_and_auto_takes_turns(cli, smear, tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    arguments = ("run", "s.yaml", "--only", "pretrain", "--workers", 0, "--data", f"cells={smear}")
    cli(*arguments, "--parallel", 2, code=2)
    assert not list(tmp_path.glob("runs/*/plans"))
    found = cli.json(*arguments, "--parallel", "auto", "--time-budget", "0.01 s", code=7)  # one document, not two
    assert {r["state"] for r in found["runs"]} <= {"planned", "stopped"}
