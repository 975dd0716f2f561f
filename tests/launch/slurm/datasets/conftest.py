"""Tasks that run here as submitit runs them on a node: pickled, and called in a process of their own."""

import os
import sys
import traceback
from pathlib import Path

import pytest
from submitit.helpers import DelayedSubmission

from medvq.config.profile import Slurm
from medvq.launch.slurm import query

sys.path.append(str(Path(__file__).parents[3] / "shards"))


class Here:
    """Takes tasks as SLURM does, and notes (phase, tasks, after); `run_all` runs them.

    Those in `lost` never run, as if a node had died. What waits for a lost or failed task does not run either.
    """

    def __init__(self):
        self.lost, self.at_exit, self.sent = set(), [], []

    def __call__(self, slurm, *, folder, code, name, key):
        self.folder, self.code, self.codes, self.sent = folder, code, [], []
        folder.mkdir(parents=True)
        return self

    def send(self, tasks, *, phase, after):
        self.sent.append((phase, len(tasks), after))
        for number, task in enumerate(tasks):
            DelayedSubmission(task).dump(self.folder / f"{phase}_{number}.pkl")
        return str(len(self.sent))

    def run_all(self):
        for phase, tasks, _ in self.sent:
            failed = any(self.codes)
            for number in range(tasks):
                gone = failed or (phase, number) in self.lost
                self.codes.append(1 if gone else self.run(self.folder / f"{phase}_{number}.pkl"))

    def run(self, pickled):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                DelayedSubmission.load(pickled).result()
                code = 0
            except SystemExit as e:
                code = e.code
            except BaseException:
                traceback.print_exc()
            finally:
                for function, given in self.at_exit:
                    function(*given)
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @property
    def phases(self):
        return [phase for phase, *_ in self.sent]


@pytest.fixture
def queue(monkeypatch):
    """What SLURM says that it has: nothing, unless a test adds to it."""
    tasks = {}
    monkeypatch.setattr(query, "queue", lambda users, patience=0: tasks)
    return tasks


@pytest.fixture
def here(queue, monkeypatch):
    """Runs tasks here."""
    made = Here()
    monkeypatch.setattr("atexit.register", lambda function, *given: made.at_exit.append((function, given)))
    return made


@pytest.fixture
def slurm():
    """What a profile asks for: three tasks in an array."""
    return Slurm(time="1 h", parallel=3, cpus_per_node=1)
