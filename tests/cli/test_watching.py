"""status and logs, on folders made here."""

import json

import pytest

RUN = "pretrain-0123"


@pytest.fixture
def run(tmp_path):
    """A run of a study, with two attempts and what its batch script said."""
    study = tmp_path / "runs/study"
    for part in ("plans", "submissions", f"{RUN}/logs"):
        (study / part).mkdir(parents=True)
    planned = {"runs": [{"run": RUN, "job": "pretrain", "needs": {}, "values": {}}], "tables": {}, "jobs": {}}
    (study / "plans/1.json").write_text(json.dumps({"study": "study", **planned}))
    (study / "submissions/1.json").write_text(json.dumps({"number": 1, "job": "7", "tasks": {"0": RUN}}))
    (study / "submissions/1-0.out").write_text("module loaded\n")
    (study / RUN / "run.json").write_text("{}")
    (study / RUN / "logs/attempt-1-rank-0.log").write_text("epoch 1\nepoch 2\n")
    (study / RUN / "logs/attempt-2-rank-0.log").write_text("epoch 3\n")
    return study / RUN


@pytest.mark.usefixtures("run")
def test_a_misspelt_state_is_answered_with_the_nearest(cli):
    """Regression: the table was empty and the exit code 0."""
    assert "did you mean running?" in cli("status", "--state", "done", "--state", "runing", code=2).stderr_text


def test_logs_as_data(cli, run):
    found = cli.json("logs", "pretrain")
    assert (found["study"], found["run"]) == ("study", RUN)
    assert [(log["attempt"], log["rank"], log["lines"]) for log in found["logs"]] == [
        (None, 0, ["module loaded"]),
        (1, 0, ["epoch 1", "epoch 2"]),
        (2, 0, ["epoch 3"]),
    ]
    assert (cli.folder / found["logs"][1]["file"]).samefile(run / "logs/attempt-1-rank-0.log")
    assert [log["lines"] for log in cli.json("logs", "pretrain", "--attempt", 2)["logs"]] == [["epoch 3"]]
    assert json.loads(cli("logs", "pretrain", "--rank", 1, "--json", code=3).stdout_text)["code"] == 3
    assert "leave one of the two away" in cli("logs", "pretrain", "-f", "--json", code=2).stdout_text
