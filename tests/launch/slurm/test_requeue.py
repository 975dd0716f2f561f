"""After an attempt: what is written down, and what the batch script is told."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medvq.config.profile import Slurm
from medvq.launch.plan import record
from medvq.launch.slurm import memory, requeue
from medvq.launch.slurm.history import ENDED_WELL, GIVE_UP
from medvq.launch.slurm.script import SbatchJob, sbatch_text
from medvq.launch.slurm.task_main import LEFT, STOPPED
from medvq.launch.start import Request, plan_for
from medvq.launch.watch import Watch
from medvq.runs import events
from medvq.runs.folder import RunFolder

RUN = "pretrain-0123"
TOP = Path(__file__).resolve().parents[3]


class Attempt:
    """The end of an attempt at a run in SLURM job 13, the only task of submission 1."""

    def __init__(self, folder, monkeypatch, capsys):
        self.record, self.folder = folder / "submissions/1.json", RunFolder(folder / RUN)
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.record.parent.mkdir()
        self.folder.path.mkdir()

    def __call__(self, *, code=137, restart=0, **slurm):
        """Exit code of `again` after the driver ended with `code`, and what it printed."""
        slurm = Slurm(**{"time": "1 h", **slurm}).model_dump(mode="json")
        self.record.write_text(json.dumps({"number": 1, "job": "12", "tasks": {"0": RUN}, "slurm": slurm}))
        facts = {"JOB_ID": "13", "JOB_NODELIST": "n1", "RESTART_COUNT": str(restart), "CPUS_PER_TASK": "1"}
        for name, value in facts.items():
            self.monkeypatch.setenv(f"SLURM_{name}", value)
        self.monkeypatch.setenv("SLURMD_NODENAME", "n1")
        self.monkeypatch.setattr(sys, "argv", ["again", str(self.record), "0", str(code), "9"])
        return requeue.main(), self.capsys.readouterr().out.strip()

    def nodes(self, count):
        """Give the cluster so many nodes."""
        sinfo = self.record.with_name("sinfo")
        sinfo.write_text(f"#!/bin/sh\necho 'gpu*|(null)|64|512000|nvlink|{count}'\n")
        sinfo.chmod(0o755)
        self.monkeypatch.setenv("PATH", str(sinfo.parent), prepend=":")

    def events(self):
        return [e["event"] for e in events.read(self.folder.events)]


@pytest.fixture
def attempt(tmp_path, monkeypatch, capsys):
    return Attempt(tmp_path, monkeypatch, capsys)


def test_a_job_is_started_again_as_often_as_the_profile_allows(attempt):
    assert attempt(requeues=1, restart=0)[0] == 0
    assert attempt(requeues=1, restart=1)[0] == GIVE_UP
    assert attempt.events() == ["crashed", "crashed", "failed"]


def test_a_job_that_may_not_come_back_does_not(attempt):
    assert attempt(requeues=0)[0] == GIVE_UP
    assert attempt.events() == ["crashed", "failed"]


def test_a_run_that_is_done_ends_well_whatever_broke_down_after_that(attempt):
    attempt.folder.result.write_text("{}")
    assert attempt(code=137)[0] == ENDED_WELL
    assert attempt.events() == []


def test_a_run_that_a_person_stopped_by_its_file_does_not_come_back_and_blames_no_node(attempt):
    attempt.nodes(4)
    assert attempt(code=LEFT) == (GIVE_UP, "")
    assert attempt.events() == [], "it is still stopped"


def test_a_file_stop_ends_the_whole_slurm_job(smear, tmp_path):
    """It counted as a break-down: the node was avoided, and the job began again."""
    request = Request(
        study="quickstart",
        only=["pretrain"],
        sets=["train.epochs=100000"],
        workers=0,
        data={"cells": str(smear)},
        datasets=tmp_path,
        runs=tmp_path / "runs",
    )
    plan = plan_for(request, Watch(active=lambda *_: None, ended=lambda *_: None, note=print))
    record(plan)
    folder = plan.folder_of(plan.runs[0])
    sent = plan.folder / "submissions/1.json"
    sent.parent.mkdir()
    slurm = Slurm(time="1 h")
    content = {"number": 1, "job": "12", "tasks": {"0": folder.name}, "slurm": slurm.model_dump(mode="json")}
    sent.write_text(json.dumps(content))
    text = sbatch_text(
        slurm,
        SbatchJob(
            name="s", key="k", number=1, tasks=(0,), dependency=None, exclude=(), record=sent, code=TOP,
            python=sys.executable,
        ),
    )  # fmt: skip
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    scontrol.chmod(0o755)
    facts = {"ARRAY_JOB_ID": "12", "ARRAY_TASK_ID": "0", "JOB_ID": "13", "JOB_NODELIST": "n1", "CPUS_PER_TASK": "1"}
    given = {f"SLURM_{name}": value for name, value in facts.items()} | {"SLURMD_NODENAME": "n1"}
    path = f"{tmp_path}:{os.environ['PATH']}"
    with subprocess.Popen(["bash", "-c", text], env={**os.environ, **given, "PATH": path}, cwd=tmp_path) as job:
        try:
            until = time.monotonic() + 120
            while not folder.progress.exists() and time.monotonic() < until:
                time.sleep(0.1)
            folder.stop.touch()
            code = job.wait(45)
        finally:
            job.kill()
    assert code == LEFT
    assert not (tmp_path / "told").exists(), "no requeue, and no node to avoid"
    assert [e["event"] for e in events.read(folder.events)][-1] == "stopped"


def test_bad_nodes_come_after_those_that_the_profile_excludes(attempt):
    attempt.nodes(4)
    assert attempt(exclude=("n7",)) == (0, "n7,n1"), "SLURM replaces the list"


@pytest.mark.parametrize("asked", [{"constraint": "nvlink|ib"}, {"partition": "cpu,gpu"}])
def test_bad_nodes_are_avoided_whatever_may_be_chosen_from(attempt, asked):
    attempt.nodes(4)
    assert attempt(**asked) == (0, "n1")


@pytest.mark.parametrize(("nodes", "said"), [(4, ""), (5, "n[7-9],n1")])
def test_a_short_form_of_nodes_counts_as_all_of_them(attempt, nodes, said):
    attempt.nodes(nodes)
    assert attempt(exclude=("n[7-9]",)) == (0, said)


def test_no_bad_node_leaves_slurms_list_as_it_is(attempt):
    attempt.nodes(4)
    assert attempt(code=STOPPED, exclude=("n7",)) == (0, "")
    assert attempt(exclude=("n1",)) == (0, ""), "the profile has it already"


def test_a_cluster_that_has_no_node_to_spare_gets_no_list(attempt):
    attempt.nodes(2)
    assert attempt(exclude=("n7",)) == (0, "")


def test_a_job_that_used_up_its_memory_is_not_tried_elsewhere(attempt, tmp_path):
    (tmp_path / "job_13").mkdir()
    (tmp_path / "job_13/memory.events").write_text("oom_kill 1\n")
    (tmp_path / "cgroup").write_text("0::/job_13/step_batch\n")
    attempt.monkeypatch.setattr(memory.kills, "__defaults__", (tmp_path / "cgroup", tmp_path))
    assert attempt(code=STOPPED)[0] == 0, "it was stopped, and goes on"
    assert attempt(code=9, memory_gb=24)[0] == GIVE_UP
    (failed,) = events.read(attempt.folder.events)
    assert failed["event"] == "failed"
    assert "memory (24 GB) was used up" in failed["error"]
