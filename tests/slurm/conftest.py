"""A real SLURM on this machine, for tests that need one."""

import fcntl
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SCRIPT = TOP / "slurm/testbed/testbed.py"
STATE = Path("/var/tmp/medvq-tests")


class Testbed:
    """Commands of the testbed, and of SLURM on its login host."""

    def __call__(self, *command, check=True, timeout=120):
        done = subprocess.run(
            [sys.executable, SCRIPT, *map(str, command)],
            env={**os.environ, "MEDVQ_TESTBED": str(STATE)},
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
        self("up", *(w for p in shared for w in ("--share", p)), timeout=400)


@pytest.fixture(scope="session")
def testbed():
    if os.geteuid() != 0:
        pytest.skip("the SLURM testbed needs root")
    if not shutil.which("apt-get") or not shutil.which("unshare"):
        pytest.skip("the SLURM testbed needs Debian's apt-get and unshare")
    with open(f"{STATE}.lock", "w") as lock:  # another checkout may be testing
        fcntl.flock(lock, fcntl.LOCK_EX)
        bed = Testbed()
        bed("down")
        bed.up()
        yield bed
        bed("down")


@pytest.fixture
def shared(testbed):
    """A folder that every host of the testbed sees."""
    folder = STATE / "shared" / uuid.uuid4().hex[:8]
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
