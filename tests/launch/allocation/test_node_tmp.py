"""What killed jobs leave on a node goes with the next one; what is in use, or somebody else's, stays."""

import contextlib
import os
import subprocess
import sys
import time

from medvq.launch.allocation import node_tmp
from medvq.launch.allocation.rendezvous import new_rendezvous, remove_rendezvous
from medvq.launch.watch import stopping

SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURMD_NODENAME": "n1", "SLURM_RESTART_COUNT": "2"}


def left(folder):
    """As a job whose processes were all killed leaves it, some minutes ago."""
    os.close(node_tmp.make(folder))
    node_tmp.ray_folder(folder).mkdir()
    past = time.time() - 300
    os.utime(folder, (past, past))


def test_a_folder_is_closed_to_others_and_the_next_job_removes_it_with_its_processes(tmp_path):
    folder = tmp_path / "mq123abcde"
    left(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    environment = {**os.environ, "RAY_TMPDIR": str(node_tmp.ray_folder(folder))}
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as orphan:
        orphan.stdout.readline()  # before Python runs, the kernel may show an empty environment
        node_tmp.sweep(tmp_path)
        assert orphan.wait(60) == -9
    assert not folder.exists()


def test_what_is_in_use_or_young_or_not_ours_stays(tmp_path):
    lock = node_tmp.make(tmp_path / "mq124abcde")
    past = time.time() - 300
    os.utime(tmp_path / "mq124abcde", (past, past))
    os.close(node_tmp.make(tmp_path / "mq125abcde"))
    left(tmp_path / "mqtt-notes")
    node_tmp.sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"mq124abcde", "mq125abcde", "mqtt-notes"}
    os.close(lock)
    node_tmp.sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"mq125abcde", "mqtt-notes"}


def test_a_folder_is_gone_while_ray_still_writes_into_it(tmp_path):
    folder = tmp_path / "mq126abcde"
    lock = node_tmp.make(folder)
    node_tmp.remove_from_now_on(folder)
    with contextlib.suppress(FileNotFoundError):
        (node_tmp.ray_folder(folder) / "logs").mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 5
    while folder.exists():
        assert time.monotonic() < end
    os.close(lock)


def test_meetings_and_stop_requests_of_killed_starts_of_the_same_job_go(tmp_path, monkeypatch):
    other, first = new_rendezvous(tmp_path, "8"), new_rendezvous(tmp_path, "7")
    second = new_rendezvous(tmp_path, "7")
    assert (other.exists(), first.exists(), second.exists()) == (True, False, True)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    for name in (".stop-7-1", ".stop-8-0"):
        (tmp_path / name).touch()
    with stopping(tmp_path) as stop:
        stop.ask()
        assert {p.name for p in tmp_path.glob(".stop-*")} == {".stop-7-2", ".stop-8-0"}
    remove_rendezvous(tmp_path, "7")
    remove_rendezvous(tmp_path, "8")
    assert {p.name for p in tmp_path.iterdir()} == {".stop-8-0"}
