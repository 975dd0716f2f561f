"""Records of what running commands still intend to do."""

import json
import subprocess
import sys

from medvq.runs.commands import announce_runs, announced_runs
from medvq.runs.process import Process

WAITS = """
import sys, pathlib
from medvq.runs.commands import announce_runs
with announce_runs(pathlib.Path(sys.argv[1])) as mean:
    mean(["a", "b"])
    print("begun", flush=True)
    input()
"""


def test_runs_count_while_their_command_lives(tmp_path):
    command = [sys.executable, "-c", WAITS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert {run: d.process.pid for run, d in announced_runs(tmp_path).items()} == {
            "a": process.pid,
            "b": process.pid,
        }
        with announce_runs(tmp_path) as mean:
            mean(["b", "c"])
            mean(["c"])
            assert {run: d.process.pid for run, d in announced_runs(tmp_path).items()} == {
                **dict.fromkeys("ab", process.pid),
                "c": Process.current().pid,
            }
        process.kill()
    assert announced_runs(tmp_path) == {}
    assert list(tmp_path.glob(".drivers/*")), "it had no time to clean up"
    with announce_runs(tmp_path):
        pass
    assert not (tmp_path / ".drivers").exists()


def test_a_torn_record_is_nobodys(tmp_path):
    (tmp_path / ".drivers").mkdir()
    (tmp_path / ".drivers/x.json").write_text("{")
    (tmp_path / ".drivers/y.json").write_text(json.dumps([1]))
    assert announced_runs(tmp_path) == {}
