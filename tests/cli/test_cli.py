"""The command line: exit codes, messages, JSON on stdout, messages on stderr, no half-written files."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medvq.cli import app
from medvq.config.locate import find

COMMANDS = ("shard", "verify", "inspect", "synth", "run", "describe", "status", "results")


def test_help_lists_every_command(cli):
    text = cli("--help").stdout_text
    assert all(f" {name} " in text for name in COMMANDS)
    for name in COMMANDS:
        assert f"medvq {name}" in cli(name, "--help").stdout_text, "an example"


def test_starting_imports_neither_torch_nor_ray_nor_numpy(cli, tmp_path):
    script = tmp_path / "look.py"
    script.write_text(
        "import sys, medvq.cli\nprint([m for m in ('torch', 'ray', 'numpy', 'pydantic') if m in sys.modules])"
    )
    import subprocess
    import sys

    found = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "q.yaml"
    shutil.copy(find("jobs", "quickstart"), path)
    return path


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["frobnicate"], 2, "No such command"),
        (["run", "nope"], 3, "no study named 'nope'"),
        (["run", "nope.yaml"], 3, "no such study file"),
        (["run", "q.yaml", "--workers", "-1"], 2, "greater than or equal to 0"),
        (["run", "q.yaml", "--workers", "3"], 2, "3 workers do not divide the batch of 32"),
        (["run", "q.yaml", "--set", "nonsense.path=3"], 2, "unknown key 'nonsense'"),
        (["run", "q.yaml", "--set", "nonsense"], 2, "cannot read --set"),
        (["run", "q.yaml", "--data", "cell=x"], 2, "did you mean cells?"),
        (["run", "q.yaml", "--data", "cells"], 2, "cannot read --data"),
        (["run", "q.yaml", "--only", "pretran"], 3, "did you mean pretrain?"),
        (["run", "q.yaml"], 3, "no dataset for cells"),
        (["shard", "nowhere", "out"], 3, "nowhere"),
        (["shard", "empty", "out"], 2, "empty"),
        (["shard", "empty", "out", "--size", "x"], 2, "size"),
        (["shard", "empty", "out", "--recipe", "pcb"], 3, "did you mean pbc?"),
        (["shard", "empty", "out", "--on-bad", "skp"], 2, "did you mean skip?"),
        (["shard", "empty", "out", "--store", "pgn"], 2, "did you mean png?"),
        (["verify", "empty"], 3, "empty"),
        (["inspect", "nowhere"], 3, "nowhere"),
        (["results", "nope"], 3, "no runs of a study"),
        (["status"], 3, "no study has runs here"),
        (["synth", "smeer", "out"], 2, "known: smear"),
        (["describe", "q.yaml", "--job", "finetun"], 3, "did you mean finetune?"),
    ],
)
def test_nonsense_is_answered(cli, study, tmp_path, args, code, words):
    (tmp_path / "empty").mkdir()
    before = sorted(p.name for p in tmp_path.iterdir())
    found = cli(*args, code=code)
    assert words in found.stderr_text.replace("\n", " ")
    assert found.stdout_text == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == before, "nothing is left behind"


@pytest.mark.parametrize(
    ("old", "new"), [("epochs:", "epocs:"), ("task: classify", "task: clasify"), ("job: pretrain", "job: finetune")]
)
def test_a_broken_study_names_its_lines(cli, study, old, new):
    study.write_text(study.read_text().replace(old, new))
    found = cli("run", study, "--smoke", code=2)
    assert f"{study}:" in found.stderr_text


def test_errors_are_json_where_json_was_asked_for(cli, study):
    found = cli("run", study, "--set", "train.epocs=3", "--json", code=2)
    record = json.loads(found.stdout_text)
    assert record["code"] == 2
    assert {"error", "where", "hint"} <= record.keys()
    assert "epocs" in record["problems"][0]["error"]


@pytest.mark.parametrize("argv", [["medvq"], ["medvq", "--json"]])
def test_the_command_line_of_the_process_does_not_decide_about_json(monkeypatch, argv):
    """`medvq.cli.app` may be a part of another program."""
    monkeypatch.setattr("sys.argv", argv)
    runner = CliRunner()
    assert runner.invoke(app, ["run", "nope"]).stdout == ""
    for args in (["run", "nope", "--json"], ["run", "--json", "nope"]):
        found = runner.invoke(app, args)
        assert (json.loads(found.stdout)["code"], found.exit_code) == (3, 3)
        assert "no study named" in found.stderr


def test_a_folder_that_cannot_be_written_is_exit_1(cli, smear, tmp_path):
    (tmp_path / "file").write_text("in the way")
    found = cli("shard", smear.parent / "tree", tmp_path / "file" / "out", code=1)
    assert "file" in found.stderr_text
    found = cli(
        "run",
        "quickstart",
        "--data",
        f"cells={smear}",
        "--set",
        "data.augment.flip=false",
        "--runs",
        tmp_path / "file" / "runs",
        code=1,
    )
    assert "file" in found.stderr_text


def test_dry_run_and_describe_work_before_there_are_data(cli, tmp_path):
    plan = cli.json("run", "quickstart", "--smoke", "--dry-run")
    assert [r["state"] for r in plan["runs"]] == ["planned"] * 5
    facts = cli.json("describe", "quickstart")
    assert facts["jobs"]["pretrain"]["parameters"]["total"] > 0
    assert facts["jobs"]["finetune"]["runs"][0]["identity"] is None
    assert "no dataset" in facts["missing"]["cells"]
    assert "pretrain" in cli("describe", "quickstart").stdout_text
    assert any(s["study"] == "quickstart" for s in cli.json("describe"))
    assert [r["state"] for r in cli.json("run", "quickstart", "--dry-run")["runs"]] == ["planned"] * 9
    sent = cli.json("submit", "quickstart", "--profile", "gpu", "--dry-run")
    assert len(sent["runs"]) == 9
    assert sent["scripts"]
    assert "no dataset for cells" in cli("run", "quickstart", "--dry-run", "--data", "cells=no", code=3).stderr_text
    assert list(tmp_path.iterdir()) == []


def test_describe_counts_each_model_and_finds_each_dataset_by_itself(cli, tmp_path):
    facts = cli.json("describe", "brain-vqvae")
    totals = {r["values"]["model.codebook_size"]: r["parameters"] for r in facts["jobs"]["grid"]["runs"]}
    assert totals[512] - totals[32] == 480 * 128
    cli("synth", "smear", "tree", "--samples", 30, "--size", 32)
    cli("shard", "tree", "adni", "--recipe", "smear")
    facts = cli.json("describe", "brain-vqvae", "--data", "adni-mri=adni")
    assert "adni-mri" not in facts["missing"]
    assert all("oasis" in why for name, why in facts["missing"].items() if name.startswith("oasis"))


def test_the_published_setting_has_the_published_parameters(cli, tmp_path):
    (tmp_path / "paper.yaml").write_text(
        "study: paper\n"
        "data: {wbc: {dataset: wbc, size: 512, classes: [a, b, c, d, e]}}\n"
        "jobs:\n"
        "  classify:\n"
        "    task: classify\n"
        "    model: {name: svqvae}\n"
        "    published_parameters: 3054644\n"
        "    data: {use: wbc}\n"
        "    train: {epochs: 1, batch_size: 24, optimizer: {lr: 1.5e-4}}\n"
    )
    found = cli.json("describe", "paper.yaml")["jobs"]["classify"]["parameters"]
    assert found["total"] == found["published"] == 3054644
    assert found["buffers"] == 15360


@pytest.fixture(scope="module")
def done(tmp_path_factory, cli_in):
    cli = cli_in(tmp_path_factory.mktemp("smoke"))
    cli("run", "quickstart", "--smoke", "--workers", "0")
    return cli


def test_a_cancelled_study_stops_whole(cli):
    """Regression: the current run stopped, and the next one began."""
    endless = [word for job in ("pretrain", "scratch") for word in ("--set", f"{job}:train.epochs=100000")]
    going = cli.start("run", "quickstart", "--smoke", "--workers", 0, *endless)
    try:
        until = time.monotonic() + 120
        while not list(cli.folder.glob("runs/*/*/progress.json")) and time.monotonic() < until:
            time.sleep(0.2)
        assert "nothing" not in cli("cancel", "quickstart-smoke", "--yes").stderr_text
        _, said = going.communicate(timeout=120)
    finally:
        going.kill()
    assert going.returncode == 7, said
    states = [r["state"] for r in cli.json("status", "quickstart-smoke")["runs"]]
    assert sorted(states) == ["planned"] * 4 + ["stopped"]


class TestSmoke:
    """One smoke study, run once, for all tests that read its results."""

    def test_every_cell_is_filled(self, done):
        tables = done.json("results", "quickstart-smoke", "--format", "json")["tables"]
        cells = [c for t in tables.values() for c in t["cells"]]
        assert len(cells) == 10
        for cell in cells:
            assert {"row", "column", "mean", "std", "n", "ci_low", "ci_high", "published", "missing"} <= cell.keys()
            assert cell["mean"] is not None
            assert cell["missing"] == 0
        accuracy = tables["accuracy"]["cells"]
        assert all(c["ci_low"] <= c["mean"] <= c["ci_high"] for c in accuracy)
        assert {c["row"] for c in accuracy} == {"finetune", "scratch", "majority class"}

    def test_the_second_time_nothing_is_done(self, done):
        before = {p: p.stat().st_mtime_ns for p in (done.folder / "runs").rglob("*")}
        assert "nothing to do: all 5 runs" in done("run", "quickstart", "--smoke", "--workers", "0").stderr_text
        assert {p: p.stat().st_mtime_ns for p in (done.folder / "runs").rglob("*")} == before

    def test_other_workers_have_the_same_runs(self, done):
        assert "nothing to do" in done("run", "quickstart", "--smoke", "--workers", "2").stderr_text

    def test_status_and_json_of_run_agree(self, done):
        status = done.json("status", "quickstart-smoke")
        run = done.json("run", "quickstart", "--smoke", "--workers", "0")
        keys = ("run", "job", "values", "state", "folder", "attempts", "metrics")
        assert [{k: r[k] for k in keys} for r in status["runs"]] == [{k: r[k] for k in keys} for r in run["runs"]]
        assert {r["state"] for r in status["runs"]} == {"done"}
        assert "5 done" in done("status").stdout_text

    @pytest.mark.parametrize(
        ("form", "words"), [("table", "majority class"), ("md", "| finetune |"), ("csv", "accuracy,finetune,100,")]
    )
    def test_results_in_every_format(self, done, form, words):
        assert (
            words
            in done("results", "quickstart-smoke", "--format", form, "--out", f"out.{form}").stdout_text
            + (done.folder / f"out.{form}").read_text()
        )
        assert done("results", "--format", "pdf", code=2).stdout_text == ""
        assert [t["study"] for t in done.json("results")] == ["quickstart-smoke"]

    def test_results_in_a_format_of_ones_own_and_by_the_suffix_of_the_file(self, done):
        (done.folder / "my_lab.py").write_text(
            "from medvq.results.formats.base import TableFormat\n\n\n"
            "class Names(TableFormat):\n"
            "    suffix = '.names'\n\n"
            "    def render(self, study, tables):\n"
            "        return study + ': ' + ' '.join(t.name for t in tables)\n"
        )
        assert done("results", "--format", "my_lab:Names").stdout_text.startswith("quickstart-smoke: accuracy")
        assert done("results", "--out", "cells.parquet").stdout_text == ""
        assert (done.folder / "cells.parquet").read_bytes()[:4] == b"PAR1"

    def test_the_run_folder_is_whole(self, done):
        folders = [p.parent for p in (done.folder / "runs/quickstart-smoke").glob("*/result.json")]
        assert len(folders) == 5
        for folder in folders:
            names = {p.name for p in folder.iterdir()}
            assert {"run.json", "events.jsonl", "checkpoints", "artifacts", "logs", "owner", "result.json"} == names
            assert not [p for p in folder.rglob("*") if p.suffix in (".pkl", ".pt", ".pth", ".tmp")]
            result = (folder / "result.json").read_text()
            assert not any(word in result for word in ("time", "host", "attempt", os.uname().nodename))
        pictures = list((done.folder / "runs").rglob("reconstructions.png"))
        assert len(pictures) == 1
        assert len(list((done.folder / "runs").rglob("curves.png"))) == 5

    def test_reading_from_a_local_copy_changes_nothing(self, done):
        job = ["run", "quickstart", "--smoke", "--workers", "0", "--only", "pretrain"]
        done(*job, "--runs", "cached", "--cache", "local")
        (copy,) = (done.folder / "local").glob("*/manifest.json")
        assert done.json("verify", copy.parent)["ok"]
        first, second = (next(done.folder.glob(f"{runs}/*/pretrain-*/result.json")) for runs in ("runs", "cached"))
        assert first.read_text() == second.read_text()

    def test_what_failed_is_told_and_tried_again(self, done):
        bad = ["run", "quickstart", "--smoke", "--workers", "0", "--runs", "bad", "--set", "train.optimizer.lr=1e30"]
        found = done(*bad, code=6)
        assert "finite" in found.stderr_text
        assert "log:" in found.stderr_text
        states = {r["job"]: r["state"] for r in done.json("status", "--runs", "bad")[0]["runs"]}
        assert states == {"pretrain": "failed", "finetune": "blocked", "scratch": "failed"}
        failed = done.json("status", "quickstart-smoke", "--runs", "bad", "--state", "failed")["runs"]
        assert {r["job"] for r in failed} == {"pretrain", "scratch"}
        assert "the run failed" in done("logs", failed[0]["run"], "-f", "--runs", "bad", timeout=60).stdout_text
        done("status", "--runs", "bad", "--watch", timeout=60)  # nothing goes on
        done(*bad, code=6)
        assert done.json("status", "--runs", "bad")[0]["runs"][0]["attempts"] == 2
        bad[-1] = "train.optimizer.lr=2e30"
        done(*bad, code=6)
        refused = done("prune", "--runs", "bad", "--json", code=2)
        assert "removed" not in refused.stdout_text
        assert (done.folder / failed[0]["folder"]).exists()
        removed = done.json("prune", "--runs", "bad", "--yes")["removed"]
        assert not any(Path(g["path"]).exists() for g in removed)
