"""Reading whether a SLURM job ran out of memory."""

from pathlib import Path

import pytest

from medvq.launch.slurm.memory import job_cgroup, kills, oom_kills

V1 = "5:devices:/\n4:memory:/slurm_n1/uid_0/job_13/step_batch\n2:cpu,cpuacct:/slurm_n1/uid_0/job_13\n0::/\n"
V2 = "0::/system.slice/slurmstepd.scope/job_13/step_batch/user/task_0\n"


@pytest.mark.parametrize(
    ("listed", "place"),
    [
        (V1, "memory/slurm_n1/uid_0/job_13"),
        (V2, "system.slice/slurmstepd.scope/job_13"),
        ("0::/user.slice/session:1\n", None),
        ("2:cpu,cpuacct:/slurm_n1/uid_0/job_13\n", None),
        ("0::/slurmstepd.scope/job_131/step_0\n", None),
        ("", None),
    ],
)
def test_the_cgroup_of_a_whole_job(listed, place):
    assert job_cgroup(listed, "13") == (place and Path(place))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 1\n", 3),
        ("oom_kill_disable 0\nunder_oom 1\noom_kill 2\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\n", 0),
        ("", 0),
    ],
)
def test_the_kernels_count(text, count):
    assert oom_kills(text) == count


def test_v2_counts_at_the_job_and_v1_in_its_steps(tmp_path):
    listed = tmp_path / "cgroup"
    job = tmp_path / "system.slice/slurmstepd.scope/job_13"
    (job / "step_batch").mkdir(parents=True)
    listed.write_text(V2)
    assert kills("13", listed, tmp_path) == 0, "no file"
    (job / "memory.events").write_text("oom_kill 2\n")
    (job / "step_batch/memory.events").write_text("oom_kill 1\n")
    assert kills("13", listed, tmp_path) == 2
    listed.write_text(V1)
    for step in ("step_batch", "step_0"):
        (tmp_path / "memory/slurm_n1/uid_0/job_13" / step).mkdir(parents=True)
        (tmp_path / "memory/slurm_n1/uid_0/job_13" / step / "memory.oom_control").write_text("oom_kill 1\n")
    assert kills("13", listed, tmp_path) == 2
    assert kills("13", tmp_path / "none", tmp_path) == 0
