"""How a process of a worker group ends."""

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys
from medvq.train.world import and_leave
atexit.register(print, "the interpreter went down")
def work():
    print("done")
    {error}
and_leave(work)
"""


@pytest.mark.parametrize(("error", "code"), [("pass", 0), ("raise ValueError('no')", 1), ("sys.exit(3)", 1)])
def test_a_rank_ends_without_taking_the_interpreter_down(error, code):
    """Threads of the process group, which DDP keeps alive, would abort the process."""
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(error=error)], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout == "done\n"
    assert ("Error: no" in done.stderr) == ("no" in error)
