"""What submitit sends to SLURM, and how tasks take signals; `sbatch` is a script that keeps what it gets."""

import os
import subprocess
from pathlib import Path

import pytest

from medvq.config.profile import Profile, Slurm, load_profile
from medvq.errors import MedvqError, MissingError, UsageError
from medvq.launch.slurm.datasets.executor import SlurmTasks, array_limit, check_profile, tasks_for
from medvq.launch.slurm.query import SilentError

FULL = Slurm(
    time="90 min",
    partition="cpu",
    account="lab",
    qos="long",
    cpus_per_node=8,
    memory_gb=32,
    constraint="ssd",
    exclude=("n7",),
    setup=("module load python",),
    python="apptainer exec image.sif python3",
    grace="2 min",
    mail="me@example.org",
    extra=("--reservation=course",),
)


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Let `sbatch` keep its script in `script`, and then do what the test says."""

    def does(then):
        (tmp_path / "bin").mkdir(exist_ok=True)
        for name, text in (("sbatch", f'cp "$1" {tmp_path}/script; env > {tmp_path}/env; {then}'), ("srun", "")):
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    return does


def send(tmp_path, slurm, tasks=3, after=None):
    sender = SlurmTasks(slurm, folder=tmp_path / "jobs", code=Path("/my code"), name="pack-cells", key="medvq:12ab")
    return sender.send([task] * tasks, phase="examine", after=after)


def task():
    pass


def test_every_key_of_a_profile_is_asked_for(tmp_path, sbatch, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    sbatch("echo Submitted batch job 12")
    assert send(tmp_path, FULL, after="11") == "12"
    text = (tmp_path / "script").read_text()
    header = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    jobs = tmp_path / "jobs"
    assert sorted(header) == [
        "account=lab", "array=0-2%3", "comment=medvq:12ab:examine", "constraint=ssd", "cpus-per-task=8",
        "dependency=afterok:11", "exclude=n7", "job-name=pack-cells.examine", "kill-on-invalid-dep=yes",
        "mail-type=FAIL", "mail-user=me@example.org", "mem=32GB", "nodes=1", "ntasks-per-node=1", "open-mode=append",
        f"output={jobs}/%A_%a_0_log.out", "partition=cpu", "qos=long", "requeue", "reservation=course",
        "signal=B:USR2@120", "time=90",
    ]  # fmt: skip
    lines = text.splitlines()
    assert lines.index("module load python") < lines.index(
        "export PYTHONSAFEPATH=1 PYTHONPATH='/my code'${PYTHONPATH:+:$PYTHONPATH}"
    )
    assert any(line.startswith("exec apptainer exec image.sif python3 -u -m submitit") for line in lines)
    subprocess.run(["bash", "-n", tmp_path / "script"], check=True)
    assert "SLURM_JOB_ID" not in (tmp_path / "env").read_text()
    assert os.environ["SLURM_JOB_ID"] == "1"


def test_gres_memory_and_comment_are_as_the_profile_says(tmp_path, sbatch):
    sbatch("echo Submitted batch job 12")
    send(tmp_path, Slurm(time="1 h", gres=("lscratch:9",), memory_gb=2, memory_per="cpu", comment="grant 7"))
    text = (tmp_path / "script").read_text()
    assert "#SBATCH --gres=lscratch:9\n" in text
    assert "#SBATCH --mem-per-cpu=2GB\n" in text
    assert "#SBATCH --comment='medvq:12ab:examine grant 7'\n" in text
    assert "--mem=" not in text
    send(tmp_path, Slurm(time="1 h", memory_gb=None))
    assert "--mem" not in (tmp_path / "script").read_text()


def test_the_smallest_profile_leaves_the_rest_to_the_cluster(tmp_path, sbatch):
    sbatch("echo Submitted batch job 5")
    assert send(tmp_path, Slurm(time="1 h"), tasks=1) == "5"
    text = (tmp_path / "script").read_text()
    for absent in ("--partition", "--account", "--dependency", "--wckey", "--gres", "--array", "--mail"):
        assert absent not in text


@pytest.mark.parametrize(
    ("then", "error"),
    [
        ("echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1", MedvqError),
        ("echo 'sbatch: error: Unable to contact slurm controller' >&2; exit 1", SilentError),
        ("echo nothing that is known", SilentError),
    ],
)
def test_a_refusal_is_told_from_a_lost_answer(tmp_path, sbatch, then, error):
    sbatch(then)
    with pytest.raises(MedvqError) as e:
        send(tmp_path, Slurm(time="1 h"))
    assert type(e.value) is error


def test_without_slurm_the_environment_lacks_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="no sbatch here"):
        array_limit()


def test_profiles_of_this_machine_or_with_gpus_are_refused_and_the_shipped_one_is_not():
    for profile in (Profile(name="here", where="here"), load_profile("gpu")):
        with pytest.raises(UsageError):
            check_profile(profile)
    assert check_profile(load_profile("cpu")).gpus_per_node == 0


def test_the_number_of_tasks():
    assert tasks_for(Slurm(time="1 h"), 1000) == 16
    assert tasks_for(Slurm(time="1 h"), 3) == 3
    assert tasks_for(Slurm(time="1 h", parallel=100), 1000) == 100
    assert tasks_for(Slurm(time="1 h", parallel=100), 1000, limit=10) == 10
    assert tasks_for(Slurm(time="1 h"), 0) == 1
