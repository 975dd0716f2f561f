"""The exact text that sbatch gets. After a wanted change: MEDVQ_WRITE_GOLDEN=1 pytest tests/slurm/test_script.py."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from medvq.config.profile import Slurm
from medvq.launch.slurm.script import Sent, sbatch_text

GOLDEN = Path(__file__).parent / "golden"
SENT = Sent(
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
    "smallest": (Slurm(time="1 h"), SENT),
    "array": (
        Slurm(time="90 s", grace="30 s", parallel=4, partition="low", requeues=3),
        replace(SENT, tasks=(0, 1, 2, 7), dependency="afterok:12_3"),
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
        replace(SENT, exclude=("gpu9", "gpu7")),
    ),
    "container": (
        Slurm(time="1 h", gpus_per_node=1, python="apptainer exec --nv /images/medvq.sif python3"),
        replace(SENT, record=Path("/runs/my study/submissions/4.json")),
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
