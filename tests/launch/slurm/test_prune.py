"""What may be removed, and what SLURM may still begin."""

import json

import pytest

from medvq.launch.slurm.prune import garbage, with_needs
from medvq.runs.commands import announce_runs

OLD = {"pretrain-1": [], "finetune-1": ["pretrain-1"], "scratch-1": [], "failed-1": []}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study whose second plan has none of the runs of the first, which were sent; the first of them is done."""
    folder = tmp_path / "runs/study"
    for part in ("plans", "submissions"):
        (folder / part).mkdir(parents=True)
    plans = [[{"run": run, "needs": {n: {"run": n} for n in needs}} for run, needs in OLD.items()], []]
    for number, runs in enumerate(plans, 1):
        (folder / f"plans/{number}.json").write_text(json.dumps({"runs": runs}))
    for run in OLD:
        (folder / run).mkdir()
        (folder / run / "run.json").write_text("{}")
    (folder / "pretrain-1/result.json").write_text("{}")
    send(folder, 1, "12", list(OLD))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    squeue(tmp_path, "")
    return folder


def send(folder, number, job, runs):
    content = {"number": number, "key": f"medvq:{number}", "job": job, "code": "c", "tasks": dict(enumerate(runs))}
    (folder / f"submissions/{number}.json").write_text(json.dumps(content))


def squeue(folder, says):
    """Let the cluster say so, in the form that squeue is asked for."""
    (folder / "squeue").write_text(f"#!/bin/sh\n{says}\n")
    (folder / "squeue").chmod(0o755)


def offered(study):
    said = []
    found = {g.path.name for g in garbage(study.parent, [study], said.append)}
    return found, said


def test_what_has_ended_can_go(study):
    assert offered(study) == (set(OLD), [])


def test_a_look_at_one_job_makes_no_other_old(study):
    (study / "plans/2.json").write_text(
        json.dumps({"runs": [{"run": "failed-1", "needs": {}}], "left_out": ["scratch"]})
    )
    assert offered(study) == (set(), [])
    (study / "plans/3.json").write_text(json.dumps({"runs": [{"run": "scratch-1", "needs": {}}]}))
    assert offered(study) == (set(OLD) - {"scratch-1"}, [])


def test_what_a_command_means_to_do_stays_with_what_it_needs(study):
    with announce_runs(study) as mean:
        mean(["finetune-1"])
        assert offered(study) == ({"scratch-1", "failed-1"}, [])


def test_what_slurm_has_stays_with_what_it_needs(study, tmp_path):
    squeue(tmp_path, "echo '12_1|PENDING||1:00|Dependency|medvq:1'; echo '12_2|FAILED|n1|1:00|None|medvq:1'")
    assert offered(study) == ({"scratch-1", "failed-1"}, [])


def test_what_was_sent_before_the_answer_was_written_down_stays(study, tmp_path):
    send(study, 2, None, ["scratch-1"])
    squeue(tmp_path, "echo '15_0|RUNNING|n1|1:00|None|medvq:2'")
    assert offered(study) == (set(OLD) - {"scratch-1"}, [])


def test_without_slurms_word_what_may_go_on_stays(study, tmp_path):
    squeue(tmp_path, "echo 'Unable to contact slurm controller' >&2; exit 1")
    found, (said,) = offered(study)
    assert found == set()
    assert "Unable to contact" in said
    (study / "scratch-1/result.json").write_text("{}")
    assert offered(study)[0] == {"scratch-1"}


def test_what_was_never_sent_needs_no_word_of_slurm(study, tmp_path):
    send(study, 1, False, list(OLD))
    squeue(tmp_path, "exit 1")
    assert offered(study) == (set(OLD), [])


def test_needs_of_needs_stay():
    assert with_needs(["c"], {"c": ["b"], "b": ["a"], "d": ["a"]}) == {"a", "b", "c"}
