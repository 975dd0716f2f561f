"""Reading what SLURM prints, and what it means for a profile or a run."""

import json
from types import SimpleNamespace

import pytest

from medvq.config.profile import Slurm
from medvq.launch.slurm import query, submit
from medvq.launch.slurm.checkup import check_partition, check_settings, parse_partitions
from medvq.launch.slurm.cluster import ClusterRun, ask_slurm, resource_use, state_with_slurm
from medvq.launch.slurm.nodes import fitting, gpus_of
from medvq.launch.slurm.query import Account, Queued, in_bytes, in_seconds
from medvq.runs.folder import RunFolder
from medvq.runs.owner import Busy, Term
from medvq.runs.submission import Submission


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512K", 524288),
        ("1.5M", 1572864),
        ("4G", 2**32),
        ("4Gn", 2**32),
        ("2Gc", 2**31),
        ("", None),
        ("?", None),
    ],
)
def test_sizes(text, size):
    assert in_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "time"),
    [("00:10", 10), ("03:04.5", 184.5), ("01:00:00", 3600), ("2-01:00:00", 176400), ("UNLIMITED", 0), ("", 0)],
)
def test_times(text, time):
    assert in_seconds(text) == time


@pytest.mark.parametrize(
    ("gres", "kind", "count"),
    [
        ("gpu:4", None, 4),
        ("gpu:a100:4(S:0-1),nvme:1", "a100", 4),
        ("gpu:a100:4,gpu:t4:2", None, 6),
        ("gpu:a100:4", "h100", 0),
        ("(null)", None, 0),
    ],
)
def test_gpus_of_a_node(gres, kind, count):
    assert gpus_of(gres, kind) == count


PARTITIONS = parse_partitions(
    "PartitionName=gpu Default=YES MaxTime=1-00:00:00 State=UP GraceTime=60\n"
    "PartitionName=old Default=NO MaxTime=UNLIMITED State=DRAIN GraceTime=0\n"
    "PartitionName=cheap Default=NO MaxTime=UNLIMITED State=UP GraceTime=300 PreemptMode=CANCEL\n"
    "PartitionName=kept Default=NO MaxTime=UNLIMITED State=UP GraceTime=300 PreemptMode=OFF\n"
    "PartitionName=gang Default=NO MaxTime=UNLIMITED State=UP GraceTime=0 PreemptMode=GANG,SUSPEND\n"
)
NODES = "gpu*|gpu:a100:4(S:0-1)|64|512000|nvlink,amd|3\nold|gpu:2|16|64000+|(null)|9\n"


@pytest.mark.parametrize(
    ("constraint", "count"),
    [
        (None, 3), ("nvlink", 3), ("nvlink&amd", 3), ("intel", 0), ("nvlink&intel", 0), ("amd|intel", 3),
        ("intel|arm", 0), ("nvlink*2", None), ("[amd|intel]", None), ("(amd|intel)&nvlink", None),
        ("intel|amd&nvlink", None),
    ],
)  # fmt: skip
def test_nodes_that_could_do_a_run(constraint, count):
    assert fitting(Slurm(time="1 h", gpus_per_node=2, constraint=constraint), NODES) == count


def test_a_run_stays_within_one_of_its_partitions():
    listed = "\n".join(f"{name}|(null)|8|64000|(null)|{n}" for name, n in [("a*", 3), ("b", 2), ("a*", 1), ("c", 9)])
    assert fitting(Slurm(time="1 h", partition="a,b"), listed) == 4


@pytest.mark.parametrize(
    ("asked", "level", "words"),
    [
        ({"gpus_per_node": 4, "nodes": 3}, "ok", "3 nodes of gpu have 4 GPUs"),
        ({"partition": "gpus"}, "fail", "no partition 'gpus'"),
        ({"partition": "gpu,gpus"}, "fail", "no partition 'gpus'"),
        ({"partition": "gpu,old", "gpus_per_node": 4}, "ok", "3 nodes of gpu or old have"),
        ({"partition": "gpu,old", "time": "2 d"}, "warn", "is more than the 1-00:00:00 of gpu"),
        ({"constraint": "nvlink*2"}, "warn", "cannot tell how many nodes of gpu have 'nvlink*2'"),
        ({"time": "2 d"}, "fail", "is more than the 1-00:00:00"),
        ({"gpus_per_node": 8}, "fail", "0 nodes of gpu have 8 GPUs"),
        ({"gpu_type": "h100", "gpus_per_node": 1}, "fail", "0 nodes of gpu have 1 h100 GPUs"),
        ({"nodes": 4}, "fail", "a run asks for 4"),
        ({"memory_gb": 600}, "fail", "600 GB"),
        ({"partition": "old"}, "warn", "old is drain"),
    ],
)
def test_a_profile_is_held_against_its_partition(asked, level, words):
    found = list(check_partition(Slurm(**{"time": "1 h", **asked}), PARTITIONS, NODES))
    assert any(found_level == level and words in what for found_level, what, _ in found), found


@pytest.mark.parametrize(
    ("settings", "partition", "words"),
    [
        ({"MaxArraySize": "0"}, "gpu", "no job arrays"),
        ({"PreemptMode": "CANCEL"}, "gpu", "SLURM does not requeue what it preempts in gpu"),
        ({"PreemptMode": "REQUEUE"}, "cheap", "SLURM does not requeue what it preempts in cheap"),
        ({"PreemptMode": "REQUEUE"}, "gpu,cheap", "SLURM does not requeue what it preempts in cheap"),
        ({"PreemptMode": "REQUEUE"}, "kept", "not preempted"),
        ({"PreemptMode": "REQUEUE"}, "gang", "suspended"),
        ({"PreemptMode": "OFF"}, "gpu", "not preempted"),
        ({"PreemptMode": "REQUEUE"}, "gpu", "preempt_send_user_signal is not set"),
        ({"PreemptMode": "REQUEUE", "SlurmctldParameters": "preempt_send_user_signal"}, "old", "GraceTime is 0"),
        ({"PreemptMode": "REQUEUE", "SlurmctldParameters": "preempt_send_user_signal"}, "gpu", "leaves 60 s"),
    ],
)
def test_what_preemption_leaves_is_told(settings, partition, words):
    found = list(check_settings(Slurm(time="1 h", partition=partition), settings, PARTITIONS))
    assert any(words in what for _, what, _ in found), found
    requeued = settings.get("PreemptMode") == "REQUEUE" and "cheap" not in partition
    assert not requeued or not any("does not requeue" in what for _, what, _ in found), found


CONTENT = {"number": 1, "job": "7", "tasks": {"0": "r"}, "profile": "p", "slurm": {"nodes": 2}, "time": 100.0}


def place(tmp_path, state=None, reason="None", account=None):
    queued = Queued(id="7_0", comment="", state=state, reason=reason, nodes="n1", left="1:00") if state else None
    return ClusterRun(
        submission=Submission(path=tmp_path / "1.json", content=CONTENT), index=0, queued=queued, account=account
    )


def account(state="COMPLETED", **more):
    facts = {"elapsed": 1000.0, "cpus": 4, "cpu_seconds": 3900.0, "memory": 2**30, "memory_asked": 2**32}
    return Account(**{"id": "7_0", "state": state, "gpus": 0, "gpu_use": None, **facts, **more})


@pytest.mark.parametrize(
    ("folder", "state", "reason", "expected"),
    [
        ("planned", "PENDING", "Resources", ("queued", "waits for free nodes")),
        ("stopped", "PENDING", "BeginTime", ("queued", "restarts in a moment")),
        ("planned", "PENDING", "DependencyNeverSatisfied", ("blocked", "what it needs failed")),
        ("planned", "RUNNING", "None", ("running", "starting")),
        ("running", "RUNNING", "None", ("running", "")),
        ("planned", "CONFIGURING", "None", ("running", "starting")),
        ("planned", "PENDING", "JobHeldAdmin", ("queued", "held: JobHeldAdmin; `scontrol release 7_0` lets it go on")),
        ("planned", "SPECIAL_EXIT", "None", ("queued", "held: special exit; `scontrol release 7_0` lets it go on")),
        ("running", "SUSPENDED", "None", ("queued", "held: suspended")),
        ("stopped", "REQUEUED", "BeginTime", ("queued", "restarts in a moment")),
        ("running", "CANCELLED", "None", ("running", "")),
        ("planned", "FAILED", "NonZeroExitCode", ("failed", "SLURM job 7_0: failed")),
        ("stopped", "TIMEOUT", "TimeLimit", ("stopped", "SLURM job 7_0: timeout")),
        ("planned", "CANCELLED", "None", ("planned", "SLURM job 7_0: cancelled")),
        ("planned", None, "", ("planned", "SLURM no longer knows it")),
        ("done", "RUNNING", "None", ("done", "")),
        ("failed", "PENDING", "Priority", ("queued", "jobs of higher priority come first")),
        ("failed", "FAILED", "NonZeroExitCode", ("failed", "")),
    ],
)
def test_the_state_of_a_run_with_slurms_word(tmp_path, folder, state, reason, expected):
    entry = SimpleNamespace(state=folder, status=SimpleNamespace(holder=Busy(host="here", pid=1)))
    assert state_with_slurm(entry, place(tmp_path, state, reason), silent=False) == expected


@pytest.mark.parametrize(
    ("folder", "state"),
    [("planned", "queued"), ("stopped", "queued"), ("blocked", "queued"), ("running", "running"), ("done", "done")],
)
def test_without_slurms_word_what_was_sent_and_has_not_ended_counts_as_queued(tmp_path, folder, state):
    assert state_with_slurm(SimpleNamespace(state=folder), place(tmp_path), silent=True)[0] == state
    assert state_with_slurm(SimpleNamespace(state=folder), None, silent=True) == (folder, "")


@pytest.mark.parametrize(("failed_at", "state"), [(99, "queued"), (101, "failed")])
def test_without_slurms_word_what_failed_may_have_been_sent_again(tmp_path, failed_at, state):
    entry = SimpleNamespace(state="failed", status=SimpleNamespace(failure={"time": failed_at}))
    assert state_with_slurm(entry, place(tmp_path), silent=True)[0] == state


def test_one_question_without_an_answer_is_not_the_end_of_a_run(tmp_path, monkeypatch):
    study = tmp_path / "study"
    (study / "submissions").mkdir(parents=True)
    (study / "submissions/1.json").write_text(json.dumps(CONTENT))
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'Socket timed out' >&2; exit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    entry = SimpleNamespace(run="r", state="stopped", folder=SimpleNamespace(path=study / "r"))
    cluster = ask_slurm([SimpleNamespace(folder=study, entries=[entry])])
    assert state_with_slurm(entry, cluster.runs[study / "r"], cluster.silent)[0] == "queued"
    assert "Socket timed out; it is not known what waits, runs or has ended" in cluster.unknown[0]


@pytest.mark.parametrize(
    ("job", "mine", "state"),
    [
        ("CANCELLED", 1, "stopped"), ("FAILED", 1, "stopped"), (None, 1, "stopped"), ("COMPLETED", 1, "running"),
        ("RUNNING", 1, "running"), ("CANCELLED", 0, "running"), ("CANCELLED", 2, "running"),
    ],
)  # fmt: skip
def test_a_run_whose_slurm_job_has_ended_does_not_run(tmp_path, job, mine, state):
    """`mine` is the submission that holds the run; 0 is a job sent by hand, 2 one that was sent later."""
    (tmp_path / "1.json").touch()
    status = SimpleNamespace(holder=Busy(host="n1", pid=1, term=Term(job="8", restart=0, submission=mine)))
    assert (
        state_with_slurm(SimpleNamespace(state="running", status=status), place(tmp_path, job), silent=False)[0]
        == state
    )
    if job != "RUNNING":
        assert (
            state_with_slurm(SimpleNamespace(state="running", status=status), place(tmp_path), silent=True)[0]
            == "running"
        )


@pytest.mark.parametrize(("says", "action"), [("CANCELLED", "goes on"), ("RUNNING", "running"), ("", "goes on")])
def test_submit_sends_a_run_again_whose_slurm_job_was_killed_a_moment_ago(tmp_path, monkeypatch, says, action):
    study, holder = tmp_path / "study", {"host": "n1", "boot": "b", "space": "", "pid": 1, "start": "1"}
    term = {"job": "7", "restart": 0, "submission": 1}
    for part in ("submissions", "r"):
        (study / part).mkdir(parents=True)
    (study / "submissions/1.json").write_text(json.dumps(CONTENT))
    (study / "r/owner").write_text(json.dumps({"attempt": 1, "token": "t", "holder": holder, "term": term}))
    (study / "r/events.jsonl").write_text('{"event": "attempt", "attempt": 1, "time": 1}\n')
    line = f"7_0|{says}|n1|1:00|None|medvq:1" if says else ""
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho '{line}'\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    spec = SimpleNamespace(run="r", job="j", needs={})
    plan = SimpleNamespace(runs=[spec], folder=study, folder_of=lambda spec: RunFolder(study / spec.run))
    assert submit.survey(plan, retry=False, offline=True).actions == {"r": action}


def test_without_accounting_what_left_the_queue_has_ended(tmp_path):
    assert state_with_slurm(SimpleNamespace(state="planned"), place(tmp_path), silent=False)[0] == "planned"
    said = place(tmp_path, account=account("OUT_OF_MEMORY"))
    assert state_with_slurm(SimpleNamespace(state="planned"), said, silent=False) == (
        "failed",
        "SLURM job 7_0: out of memory",
    )


def test_hints_for_the_profile(tmp_path):
    (line,) = resource_use([place(tmp_path, account=account())])
    assert "CPU 98%, memory 50% at most" in line
    (line,) = resource_use([place(tmp_path, account=account(cpu_seconds=400.0, memory=2**31 - 1, gpu_use=12.0))])
    assert all(w in line for w in ("fewer `cpus_per_node`", "more `memory_gb`", "GPU 12 %"))
    assert resource_use([place(tmp_path, account=account(elapsed=5.0))]) == []


@pytest.mark.parametrize(
    ("said", "job"),
    [
        ("Submitted batch job 12\n", "12"),
        ("Submitted batch job 12 on cluster east\n", "12"),
        ("12\n", "12"),
        ("12;east\n", "12"),
        ("note: 3 jobs wait\n12;east\n", "12"),
        ("12 jobs wait\n", None),
        ("", None),
    ],
)
def test_the_job_in_what_sbatch_prints(said, job):
    if job is None:
        with pytest.raises(query.SilentError):
            query.job_id(said)
    else:
        assert query.job_id(said) == job


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ({}, 3),
        ({"gres": ("lscratch:100",)}, 1),
        ({"memory_gb": None}, 4),
        ({"memory_gb": 8, "memory_per": "cpu"}, 1),
        ({"memory_gb": 20, "memory_per": "gpu", "gpus_per_node": 2}, 1),
    ],
)
def test_nodes_with_the_resources_of_a_run(keys, count):
    listed = "a*|gpu:2(S:0),lscratch:900|8|64000||1\na*|gpu:4|8|17000||2\na*|(null)|4|4000||1\n"
    assert fitting(Slurm(time="1 h", **keys), listed) == count
