"""Whatever is killed, and whenever: the study ends with the same bytes."""

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def wait_for(what, timeout=120):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def attempts(folder):
    return sum(p.read_text().count('"event": "attempt"') for p in folder.glob("runs/*/*/events.jsonl"))


def descendants(pid):
    """Process ids of the children of a process, and theirs."""
    text = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(a): int(b) for a, b in (line.split() for line in text.splitlines())}
    found, more = set(), {pid}
    while more:
        more = {p for p, parent in parents.items() if parent in more} - found
        found |= more
    return found


def command(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as f:
        return f.read().replace("\0", " ")
    return ""


def test_the_driver_killed_in_mid_epoch_again_and_again(cli, study):
    rng = random.Random(3)
    for kill in range(3):
        process = cli.start(*study.args, "--workers", 2, start_new_session=True)
        before = attempts(cli.folder)
        wait_for(lambda: attempts(cli.folder) > before or process.poll() is not None)  # noqa: B023
        time.sleep(rng.uniform(0, 3))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert attempts(cli.folder) > kill
    cli(*study.args, "--workers", 2, timeout=600)
    assert study.left(cli.folder / "runs") == study.undisturbed


def test_a_worker_that_dies_is_replaced_in_the_same_command(cli, study):
    process = cli.start(*study.args, "--workers", 2)
    wait_for(lambda: attempts(cli.folder) >= 1)
    workers = wait_for(lambda: [p for p in descendants(process.pid) if "RayTrainWorker" in command(p)])
    os.kill(workers[-1], signal.SIGKILL)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert "a process died; starting again from the last checkpoint" in stderr
    assert study.left(cli.folder / "runs") == study.undisturbed


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 0)])
def test_a_stop_request_leaves_a_checkpoint_and_exit_7(cli, study, number, workers):
    process = cli.start(*study.args, "--workers", workers)
    wait_for(lambda: attempts(cli.folder) >= 1)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 7, stderr
    assert "stopped with a checkpoint" in stderr
    assert list(cli.folder.glob("runs/*/*/checkpoints/step-*"))
    assert "Traceback" not in stderr
    if workers == 2:
        cli(*study.args, "--workers", 2, timeout=600)
        assert study.left(cli.folder / "runs") == study.undisturbed


def test_two_terminals_share_the_work(cli, study):
    both = [cli.start(*study.args, "--workers", 2) for _ in range(2)]
    ends = [p.communicate(timeout=600) for p in both]
    assert [p.returncode for p in both] == [0, 0], ends
    assert study.left(cli.folder / "runs") == study.undisturbed
    assert attempts(cli.folder) == len(study.undisturbed), "no run was begun twice"
    assert all("finetune" in stdout for stdout, _ in ends), "both print the tables"


def test_nothing_is_left_outside_the_runs_folder(cli, study, tmp_path_factory):
    home, temp = tmp_path_factory.mktemp("home"), Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    process = cli.start(*study.args, "--workers", 1, env={"HOME": str(home), "TMPDIR": str(temp)})
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert [p.name for p in cli.folder.iterdir()] == ["runs"]
    assert list(temp.iterdir()) == []
    temp.rmdir()
    # matplotlib's list of fonts; everything else would be ours or Ray's.
    assert {p.name for p in home.iterdir()} <= {".cache", ".config"}
    assert {p.name for d in home.iterdir() for p in d.iterdir()} <= {"matplotlib"}
