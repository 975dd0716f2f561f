"""The exact text that sbatch gets.

After a wanted change: MEDVQ_WRITE_GOLDEN=1 pytest tests/launch/slurm/test_script.py.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from medvq.config.profile import Slurm
from medvq.launch.slurm.history import ENDED_WELL, GIVE_UP
from medvq.launch.slurm.script import SbatchJob, sbatch_text

GOLDEN = Path(__file__).parent / "golden"
ONE_RUN = SbatchJob(
    name="study.job",
    key="medvq:0123456789abcdef",
    number=4,
    tasks=(0,),
    dependency=None,
    exclude=(),
    record=Path("/runs/study/submissions/4.json"),
    code=Path("/runs/.code/0123456789abcdef"),
    python="/opt/medvq/bin/python",
)
CASES = {
    "smallest": (Slurm(time="1 h"), ONE_RUN),
    "array": (
        Slurm(time="90 s", grace="30 s", parallel=4, partition="low", requeues=3),
        replace(ONE_RUN, tasks=(0, 1, 2, 7), dependency="afterok:12_3"),
    ),
    "gpus": (
        Slurm(
            time="2 d",
            partition="gpu",
            account="lab",
            qos="long",
            nodes=2,
            gpus_per_node=4,
            gpu_type="a100",
            cpus_per_node=32,
            memory_gb=200,
            constraint="nvlink",
            exclude=("gpu7",),
            setup=("module load python/3.11", "export NCCL_DEBUG=WARN"),
            interface="ib0",
            grace="5 min",
            mail="me@example.org",
            extra=("--reservation=course", "--exclusive"),
        ),
        replace(ONE_RUN, exclude=("gpu9", "gpu7")),
    ),
    "container": (
        Slurm(time="1 h", gpus_per_node=1, python="apptainer exec --nv /images/medvq.sif python3"),
        replace(ONE_RUN, record=Path("/runs/my study/submissions/4.json")),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_text_is_what_it_was(case):
    text = sbatch_text(*CASES[case])
    golden = GOLDEN / f"{case}.sbatch"
    if os.environ.get("MEDVQ_WRITE_GOLDEN"):
        golden.write_text(text + "\n")
    assert text + "\n" == golden.read_text()


@pytest.mark.parametrize("case", CASES)
def test_bash_can_read_it(case):
    subprocess.run([shutil.which("bash"), "-n"], input=sbatch_text(*CASES[case]), text=True, check=True)


def test_nothing_sends_a_signal_into_ray_or_leaves_requeueing_to_chance():
    text = sbatch_text(*CASES["smallest"])
    assert "#SBATCH --signal=B:USR1@180\n" in text
    assert "#SBATCH --requeue\n" in text
    assert "#SBATCH --open-mode=append\n" in text
    assert "ray stop" not in text
    assert "#SBATCH --kill-on-invalid-dep=yes\n" in sbatch_text(*CASES["array"])


JOB = """\
import signal, sys, time
if sys.argv[2] == "medvq.launch.slurm.requeue":
    print({said!r})
    sys.exit({again})
time.sleep(0.3)
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(5))
if {code}:
    sys.exit({code})
time.sleep(20)
"""


@pytest.fixture
def batch(tmp_path):
    """Start the batch script as slurmd does, with a job that ends with `code`, or with 5 when it hears USR1."""
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    (tmp_path / "scontrol").chmod(0o755)
    (tmp_path / "slurm").mkdir()

    def start(slurm, *, code=0, again=0, said=""):
        (tmp_path / "job.py").write_text(JOB.format(code=code, again=again, said=said))
        record = tmp_path / "slurm/4.json"
        text = sbatch_text(slurm, replace(ONE_RUN, python=sys.executable, record=record))
        text = text.replace(f"{sys.executable} -m", f"{sys.executable} {tmp_path}/job.py -m")
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_JOB_ID": "12", "SLURM_JOB_ID": "13"}
        return subprocess.Popen(["bash", "-c", text], env=environment, start_new_session=True)

    return start


def test_a_signal_during_the_lines_of_the_profile_reaches_the_run(batch, tmp_path):
    begun = tmp_path / "begun"
    process = batch(Slurm(time="1 h", setup=(f"touch {begun}", "sleep 2")))
    while not begun.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 5


@pytest.mark.parametrize(("again", "code"), [(ENDED_WELL, 0), (GIVE_UP, 9), (1, 9)])
def test_the_job_ends_as_its_run_does(batch, tmp_path, again, code):
    assert batch(Slurm(time="1 h"), code=9, again=again).wait(20) == code
    assert not (tmp_path / "told").exists(), "no requeue"


@pytest.mark.parametrize(
    ("keys", "there", "absent"),
    [
        ({"gres": ("lscratch:100",)}, ["--gres=lscratch:100"], []),
        (
            {"gres": ("lscratch:100", "nvme"), "gpus_per_node": 2, "gpu_type": "a100"},
            ["--gres=gpu:a100:2,lscratch:100,nvme"],
            [],
        ),
        ({"memory_gb": None}, [], ["--mem"]),
        ({"memory_gb": 2, "memory_per": "cpu"}, ["--mem-per-cpu=2GB"], ["--mem="]),
        ({"memory_gb": 2, "memory_per": "gpu", "gpus_per_node": 1}, ["--mem-per-gpu=2GB"], ["--mem="]),
        ({"comment": "grant 7"}, ["--comment='medvq:0123456789abcdef grant 7'"], []),
    ],
)
def test_gres_memory_and_comment_are_as_the_profile_says(keys, there, absent):
    lines = sbatch_text(Slurm(time="1 h", **keys), ONE_RUN).splitlines()
    assert all(f"#SBATCH {option}" in lines for option in there)
    assert not any(option in line for option in absent for line in lines)
