"""SLURM jobs of two users, and two of one user, on one node: none meets another's Ray."""

import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PROFILE = """\
name: crowd
where: slurm
slurm: {time: 10 min, cpus_per_node: 1, memory_gb: 2, grace: 30 s, extra: [--nodelist=node1]}
"""
ARGS = ("--smoke", "--workers", 1, "--set", "train.epochs=10000", "--profile", "crowd.yaml")
SOON = 240
"""Seconds: three Rays end and train on two cores, and other tests may have left work behind."""
TOP = Path(__file__).resolve().parents[3]


class Stranger:
    """Another user of the cluster, with a folder of their own."""

    def __init__(self, testbed, folder):
        self.testbed, self.folder = testbed, folder
        paths = os.pathsep.join([str(TOP), sysconfig.get_paths()["purelib"]])
        self.environment = ("env", f"PYTHONPATH={paths}", f"HOME={folder}", "PYTHONDONTWRITEBYTECODE=1")
        version = ".".join(map(str, sys.version_info[:2]))
        self.python = next(filter(self.can_use, (sys.executable, f"/usr/bin/python{version}")), None)

    def __call__(self, *command, check=True):
        become = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *self.environment)
        setting = ("sh", "-c", 'cd "$0" && exec "$@"', str(self.folder), *map(str, command))
        return self.testbed("login", "--", *become, *setting, check=check)

    def can_use(self, python):
        return self(python, "-c", "import medvq, numpy, ray", check=False).returncode == 0

    def submit(self, *args):
        self(self.python, "-c", "from medvq.cli import main; main()", "submit", "quickstart", *args)


@pytest.fixture
def stranger(testbed, shared):
    folder = shared / "stranger"
    folder.mkdir()
    shutil.chown(folder, "nobody", "nogroup")
    (folder / "crowd.yaml").write_text(PROFILE)
    found = Stranger(testbed, folder)
    if found.python is None:
        pytest.skip("another user cannot read this checkout, its packages, or a Python for them")
    yield found
    testbed.login("scancel", "-u", "nobody")


def epochs(run):
    events = run / "events.jsonl"
    return events.read_text().count('"epoch", ') if events.exists() else 0


def test_nobody_meets_a_ray_that_is_not_theirs(user, stranger, wait):
    testbed = user.testbed
    (user.folder / "crowd.yaml").write_text(PROFILE)
    stranger.submit("--only", "pretrain", *ARGS)
    user("submit", "quickstart", "--only", "scratch", *ARGS)
    mine = [user.folder / f"runs/quickstart-smoke/{run}" for run in user.sent()]
    (theirs,) = stranger.folder.glob("runs/*/pretrain-*")
    runs = [*mine, theirs]
    wait(lambda: all(epochs(run) for run in runs), 300)

    def on_node(script):
        return testbed("on", "node1", "--", "sh", "-c", script).stdout

    def left():
        return on_node("find /tmp/mq* -ls; ps -ef") + str(user.queue()) + str([run.name for run in mine])

    folders = [line.split() for line in on_node("stat -c '%A %U %n' /tmp/mq*").splitlines()]
    assert sorted(owner for _, owner, _ in folders) == ["nobody", "root", "root"]
    assert {mode for mode, _, _ in folders} == {"drwx------"}
    heads = on_node("pgrep -a gcs_server")
    assert len(set(re.findall(r"--gcs_server_port=(\d+)", heads))) == 3
    tokens = [*user.folder.glob("runs/*/.ray/*/token"), *stranger.folder.glob("runs/*/.ray/*/token")]
    assert len({token.read_text() for token in tokens}) == 3
    for token in tokens[:2]:
        assert stranger("cat", token, check=False).returncode != 0

    first = user.sent()[mine[0].name][0]
    testbed.login("scancel", first)
    wait(lambda: len(on_node("ls -d /tmp/mq*").split()) == 2, SOON, left)
    before = [epochs(run) for run in runs[1:]]
    wait(lambda: all(epochs(run) > n + 2 for run, n in zip(runs[1:], before, strict=True)), SOON)
    testbed.login("scancel", "-u", "nobody")
    wait(lambda: len(on_node("ls -d /tmp/mq*").split()) == 1, SOON, left)
    wait(lambda: not on_node("pgrep -u nobody || true").strip(), SOON)
    before = epochs(mine[1])
    wait(lambda: epochs(mine[1]) > before + 2, SOON)
    assert (mine[1] / "events.jsonl").read_text().count('{"event": "attempt"') == 1
