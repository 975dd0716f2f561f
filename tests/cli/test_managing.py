"""cancel and retry, with stand-ins for SLURM's commands."""

import json
import os

import pytest

from medvq.runs import events
from medvq.runs.commands import announce_runs
from medvq.runs.folder import RunFolder
from medvq.runs.owner import Term, claim
from medvq.runs.process import Process

RUNS = ("pretrain-1", "scratch-1")


@pytest.fixture
def study(tmp_path):
    """A study of two runs on which this process works, outside SLURM."""
    folder = tmp_path / "runs/study"
    (folder / "plans").mkdir(parents=True)
    (folder / "plans/1.json").write_text(json.dumps({"runs": [{"run": run, "needs": {}} for run in RUNS]}))
    for run in RUNS:
        hold(folder, run, None)
    return folder


def hold(study, run, term):
    """Let this process claim a run, in the given SLURM term."""
    folder = RunFolder(study / run)
    folder.path.mkdir(exist_ok=True)
    (folder.path / "run.json").write_text("{}")
    events.append(folder.events, claim(folder.owner, Process.current(), term), "attempt", hosts=["n1"])


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A cluster without job arrays; the arguments with which `scancel` was called."""
    told = tmp_path / "told"
    for name, does in (("scancel", f'echo "$@" >> {told}'), ("scontrol", "echo MaxArraySize = 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return lambda: told.read_text().split() if told.exists() else []


def test_cancel_ends_a_slurm_job_that_was_sent_by_hand(cli, study, slurm):
    """Regression: its run stopped and the next one began; the second time the job was requeued."""
    for run in RUNS:
        hold(study, run, Term(job="77", restart=0))
    assert cli("cancel", "study", "--dry-run").stdout_text.count("SLURM job 77, whole") == 2
    assert slurm() == []
    assert cli.json("cancel", "study", "--yes") == {"cancelled": list(RUNS)}
    assert slurm() == ["77"]
    assert not list(study.glob("*/stop")) + list(study.glob(".cancel"))


def test_cancel_of_what_runs_in_a_terminal_asks_no_slurm(cli, study, slurm):
    cli("cancel", "study", "--yes")
    assert slurm() == []
    assert (study / ".cancel").exists()


@pytest.mark.usefixtures("slurm")
def test_submit_to_a_cluster_without_arrays_says_so(cli, smear, tmp_path):
    (tmp_path / "p.yaml").write_text("name: p\nwhere: slurm\nslurm: {time: 1 h}\n")
    asked = ("--profile", "p.yaml", "--only", "pretrain", "--data", f"cells={smear}")
    assert "has no job arrays" in cli("submit", "quickstart", *asked, code=4).stderr_text


def test_retry_with_a_profile_that_an_older_medvq_took_says_what_is_wrong_with_it(cli, study):
    (study / "submissions").mkdir()
    content = {"number": 1, "job": "7", "tasks": {}, "profile": "p", "slurm": {"time": "1 h", "extra": ["--nodes=2"]}}
    (study / "submissions/1.json").write_text(json.dumps(content))
    said = cli("retry", "study", "--dry-run", code=2).stderr_text
    assert "--nodes is set by the key `nodes`" in said
    assert "--profile" in said


def test_cancel_ends_what_waits_for_its_turn(cli, tmp_path, slurm):
    """Regression: while Ray started, and between two runs, cancel said that there was nothing to end."""
    folder = tmp_path / "runs/study"
    (folder / "plans").mkdir(parents=True)
    (folder / "plans/1.json").write_text(json.dumps({"runs": [{"run": run, "needs": {}} for run in RUNS]}))
    for run in RUNS:
        (folder / run).mkdir()
        (folder / run / "run.json").write_text("{}")
    with announce_runs(folder) as mean:
        mean(RUNS)
        said = cli("cancel", RUNS[0], "--yes").stderr_text
        assert "cancel the study to end that" in said
        assert not (folder / ".cancel").exists()
        assert cli("cancel", "study", "--dry-run").stdout_text.count("its turn comes in process") == 2
        assert cli.json("cancel", "study", "--yes") == {"cancelled": list(RUNS)}
        assert (folder / ".cancel").exists()
    assert cli.json("cancel", "study", "--yes") == {"cancelled": []}
    assert slurm() == []
