"""The batch script for people who call `sbatch` themselves: when it asks SLURM to begin the job again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HEARS = """
import os, signal, time
signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
print("ready", flush=True)
time.sleep(20)
"""
SCRIPT = Path(__file__).resolve().parents[3] / "slurm/medvq.sbatch"


@pytest.fixture
def job(tmp_path):
    """Runs the script with a stand-in for medvq; gives its exit code and what SLURM was asked."""
    told = tmp_path / "told"

    def _job(medvq, number=None):
        commands = {"medvq": medvq, "scontrol": f'echo "$@" >> {told}', "sleep": "exec /bin/sleep 0.1"}
        for name, does in commands.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
            (tmp_path / name).chmod(0o755)
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "77"}
        with subprocess.Popen(["bash", SCRIPT, "study"], env=env, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            if number:
                process.send_signal(number)
            try:
                code = process.wait(30)
            finally:
                process.kill()
        return code, told.read_text().strip() if told.exists() else ""

    return _job


def test_a_persons_stop_file_is_the_end(job):
    assert job("echo ready; exit 7") == (7, "")


def test_slurms_notice_is_passed_on_and_the_job_comes_back(job):
    assert job(f"exec {sys.executable} -c '{HEARS}'", signal.SIGUSR1) == (7, "requeue 77")


def test_a_break_down_is_tried_again_and_an_error_is_not(job):
    assert job("echo ready; kill -9 $$") == (137, "requeue 77")


@pytest.mark.parametrize("code", [0, 2, 6])
def test_other_ends_are_ends(job, code):
    assert job(f"echo ready; exit {code}") == (code, "")
