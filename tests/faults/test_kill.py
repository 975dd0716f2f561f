"""A study ends with the same bytes, whatever process is killed and whenever."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def wait_for(what, timeout=300):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def attempts(folder):
    return sum(p.read_text().count('"event": "attempt"') for p in folder.glob("runs/*/*/events.jsonl"))


def steps(folder):
    """Return the number of steps that the current run has done."""
    found = [0]
    for path in folder.glob("runs/*/*/progress.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(path.read_text())["step"])
    return max(found)


def listening(pid):
    """Return the addresses on which a process listens."""
    sockets = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(link))
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[i] for i in (1, 3, 9))
            if state == "0A" and f"socket:[{inode}]" in sockets:
                words = bytes.fromhex(local.split(":")[0])
                yield socket.inet_ntop(family, b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4)))


def descendants(pid):
    """Return the ids of all descendants of a process."""
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
    assert "a process died; starting again" in stderr
    assert study.left(cli.folder / "runs") == study.undisturbed


PARTS = ("RayTrainWorker", "raylet/raylet", "gcs_server", "TrainController", "medvq.workers.ray_server")


@pytest.mark.parametrize(
    ("launcher", "parts"),
    [("ray", PARTS), ("torchrun", ("medvq.workers.torchrun_worker", "torch.distributed.run"))],
)
def test_whatever_part_is_killed_the_same_command_goes_on(cli, study, launcher, parts):
    rng = random.Random(5)
    parts = rng.sample(parts, len(parts))
    more = ("--set", f"resources.launcher={launcher}", "--set", "resources.retries=9", "--only", "pretrain")
    process = cli.start(*study.args, "--workers", 2, *more)
    for kill, part in enumerate(parts):
        wait_for(lambda: attempts(cli.folder) > kill or process.poll() is not None)  # noqa: B023
        step = rng.randint(0, 12)
        wait_for(lambda: steps(cli.folder) >= step or process.poll() is not None)  # noqa: B023
        for pid in [p for p in descendants(process.pid) if part in command(p)][:1]:
            os.kill(pid, signal.SIGKILL)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert "starting again" in stderr
    done = study.left(cli.folder / "runs")
    assert done == {name: left for name, left in study.undisturbed.items() if name.startswith("pretrain")}


def test_a_machine_that_keeps_failing_is_given_up(cli, study):
    more = ("--set", "resources.launcher=torchrun", "--set", "resources.retries=1", "--only", "pretrain")
    process = cli.start(*study.args, "--workers", 2, *more)
    for kill in range(2):
        wait_for(lambda: attempts(cli.folder) > kill)  # noqa: B023
        worker = wait_for(lambda: [p for p in descendants(process.pid) if "torchrun_worker" in command(p)])[-1]
        os.kill(worker, signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 6, stderr
    assert "its processes died 2 times" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("more", "env"),
    [
        (("--workers", 0, "--set", "pretrain:model.channels=400000"), {}),  # torch is refused the memory
        (("--workers", 1), {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}),
    ],
)
def test_too_little_memory_is_told_and_not_tried_again(cli, more, env):
    process = cli.start("run", "quickstart", "--smoke", "--only", "pretrain", *more, env=env)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 6, stderr
    assert "out of memory" in stderr
    assert "a smaller batch or train.accumulate help" in stderr
    assert "starting again" not in stderr
    assert attempts(cli.folder) <= 1
    assert "Traceback" not in stderr


def test_two_at_a_time_leave_what_one_after_the_other_does(cli_in, study, tmp_path):
    """Also with another launcher: only the numbers of workers and threads may change bits."""
    left = []
    for more in (("--set", "resources.launcher=torchrun"), ("--parallel", 2)):
        cli = cli_in(tmp_path / str(len(left)))
        cli.folder.mkdir()
        done = cli(*study.args, "--workers", 1, "--set", "resources.threads=1", *more, timeout=600)
        left.append(study.left(cli.folder / "runs"))
    assert left[0] == left[1]
    assert len(left[0]) == 5
    lines = [line for line in done.stderr_text.splitlines() if "starting 1 Ray Train worker" in line]
    assert len(lines) > 1


def test_a_failed_run_does_not_stop_the_others(cli, study):
    bad = ("--set", "scratch:train.optimizer.lr=1e30", "--set", "resources.launcher=torchrun")
    found = cli(*study.args, "--workers", 1, "--parallel", 2, *bad, code=6, timeout=600)
    assert "finite" in found.stderr_text
    states = {r["run"].split("-")[0]: r["state"] for r in cli.json("status", "quickstart-smoke")["runs"]}
    assert states == {"pretrain": "done", "finetune": "done", "scratch": "failed"}


@pytest.mark.parametrize("how", ["budget", "file", "usr1"])
def test_other_ways_to_stop(cli, study, how):
    more = ("--time-budget", "25 s") if how == "budget" else ()
    process = cli.start(*study.args, "--workers", 0, "--only", "pretrain", "--set", "train.epochs=100000", *more)
    wait_for(lambda: steps(cli.folder) > 3 or process.poll() is not None)
    if how == "file":
        next(cli.folder.glob("runs/*/pretrain-*/events.jsonl")).with_name("stop").touch()
    elif how == "usr1":
        process.send_signal(signal.SIGUSR1)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 7, stderr
    assert list(cli.folder.glob("runs/*/*/checkpoints/step-*"))
    assert ("time budget" in stderr) == (how == "budget")


@pytest.mark.parametrize("launcher", ["ray", "torchrun"])
def test_nothing_listens_beyond_loopback(cli, study, launcher):
    more = ("--set", f"resources.launcher={launcher}", "--only", "pretrain", "--set", "train.epochs=100000")
    process = cli.start(*study.args, "--workers", 2, *more)
    wait_for(lambda: steps(cli.folder) > 0)
    found = {address for pid in {process.pid, *descendants(process.pid)} for address in listening(pid)}
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 7
    assert found, "gloo at least listens"
    assert {a for a in found if not a.startswith(("127.", "::ffff:127.", "::1"))} == set()


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
