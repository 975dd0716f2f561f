"""A real SLURM on this machine, for tests that need one."""

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[3]
MEDVQ = [sys.executable, "-c", "from medvq.cli import main; main()"]
SCRIPT = TOP / "slurm/testbed/testbed.py"
STATE = Path(os.environ.get("MEDVQ_TESTBED", "/var/tmp/medvq-tests"))


class Testbed:
    """Commands of the testbed, and of SLURM on its login host."""

    script = SCRIPT
    environment = {**os.environ, "MEDVQ_TESTBED": str(STATE)}

    def __call__(self, *command, check=True, timeout=120):
        done = subprocess.run(
            [sys.executable, SCRIPT, *map(str, command)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0 or not check, f"testbed {command}: {done.stdout}\n{done.stderr}"
        return done

    def login(self, *command, check=True, timeout=120):
        return self("login", "--", *command, check=check, timeout=timeout).stdout

    def up(self):
        shared = [p for p in (TOP, Path(sys.prefix), Path(sys.base_prefix)) if p.is_relative_to("/tmp")]
        self("up", "--memory", 7000, *(w for p in shared for w in ("--share", p)), timeout=400)


@pytest.fixture(scope="session")
def testbed():
    if os.geteuid() != 0:
        pytest.skip("the SLURM testbed needs root")
    if not shutil.which("apt-get") or not shutil.which("unshare"):
        pytest.skip("the SLURM testbed needs Debian's apt-get and unshare")
    lock = os.open(STATE.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another checkout may be testing
        bed = Testbed()
        bed("down")
        bed.up()
        yield bed
        bed("down")
    finally:
        os.close(lock)


class User:
    """Somebody on the login host, in a folder that every host sees."""

    def __init__(self, testbed, folder):
        self.testbed, self.folder = testbed, folder

    def __call__(self, *command, code=0, timeout=120, path=None):
        """Run medvq; with `path`, programs are looked for there first."""
        found = os.pathsep.join(filter(None, [str(path or ""), str(Path(sys.executable).parent), os.environ["PATH"]]))
        setting = shlex.join(["env", f"PATH={found}", f"PYTHONPATH={TOP}", "COLUMNS=200", *MEDVQ, *map(str, command)])
        done = self.testbed("login", "--", "sh", "-c", f"cd {self.folder} && {setting}", check=False, timeout=timeout)
        assert code is None or done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *command, **options):
        return json.loads(self(*command, "--json", **options).stdout)

    def queue(self, states="all"):
        """SLURM's state of every task of jobs that medvq sent, by id."""
        out = self.testbed.login("squeue", "-h", "-r", "-t", states, "-o", "%F_%K %T %k")
        return {i: state for i, state, *key in map(str.split, out.splitlines()) if key and key[0].startswith("medvq:")}

    def sent(self):
        """SLURM's ids of every run, over all submissions."""
        found = {}
        for path in self.folder.glob("runs/*/submissions/*.json"):
            content = json.loads(path.read_text())
            for index, run in content["tasks"].items():
                if content["job"]:
                    found.setdefault(run, []).append(f"{content['job']}_{index}")
        return found


@pytest.fixture
def user(testbed, shared):
    user = User(testbed, shared)
    yield user
    testbed.login("scancel", "-u", "root")
    wait_for(lambda: not testbed.login("squeue", "-h").strip())


@pytest.fixture(scope="session")
def wait():
    """Wait for something to happen."""
    return wait_for


def wait_for(what, seconds=60, otherwise=lambda: "it did not happen in time"):
    """Wait until `what` gives something true, and return it; after `seconds` fail with what `otherwise` says."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, otherwise()
        time.sleep(0.5)  # each look starts processes, which a busy machine feels


@pytest.fixture
def shared(testbed):
    """A folder that every host of the testbed sees."""
    folder = STATE / "shared" / uuid.uuid4().hex[:8]
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
