"""A package outside medvq adds one of everything, and a study runs with all of it."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medvq.config.resolve import load_study
from medvq.errors import ConfigError

HERE = Path(__file__).parent
FINDINGS = ["blast", "normal", "smudge"]


@pytest.fixture
def lay(package):
    """Puts the package and its study into a folder."""

    def _lay(folder: Path) -> None:
        package(folder)
        shutil.copy(HERE / "doors.yaml", folder)

    return _lay


@pytest.fixture(scope="module")
def lab(tmp_path_factory, cli_in, package, scans):
    """The study on images from the package's own source, run once."""
    folder = tmp_path_factory.mktemp("lab")
    package(folder)
    shutil.copy(HERE / "doors.yaml", folder)
    scans(folder / "scans.db", 60, (16, 16), FINDINGS)
    splits = "splits: {make: {test: 0.25, val: 0.25}}"
    (folder / "scans.yaml").write_text(f"container: outside_lab.sources:Database\n{splits}\n")
    cli = cli_in(folder)
    cli("shard", "scans.db", "datasets/scans", "--recipe", "scans.yaml", "--processes", "1")
    cli.runs = {run["job"]: run for run in cli.json("run", "doors.yaml", "--workers", "0")["runs"]}
    return cli


def test_every_run_is_done_and_measured(lab):
    assert {job: run["state"] for job, run in lab.runs.items()} == dict.fromkeys(
        ("clean", "signs", "teacher", "student"), "done"
    )
    assert {"test/mse", "test/psnr"} <= set(lab.runs["clean"]["metrics"])
    assert "test/perplexity" not in lab.runs["clean"]["metrics"], "it has no codebook"
    assert 1 <= lab.runs["signs"]["metrics"]["test/perplexity"] <= 16
    artifacts = {p.name for p in (lab.folder / lab.runs["clean"]["folder"] / "artifacts").iterdir()}
    assert "reconstructions.png" in artifacts
    assert "codebooks.json" not in artifacts


def test_losses_of_a_code_are_in_the_curves(lab):
    events = (lab.folder / lab.runs["clean"]["folder"] / "events.jsonl").read_text().splitlines()
    epochs = [e["metrics"] for e in map(json.loads, events) if e["event"] == "epoch"]
    assert all({"train/sparsity", "train/loss"} <= set(metrics) for metrics in epochs)


def test_a_metric_is_in_the_epochs_the_result_and_the_table(lab):
    run = lab.runs["teacher"]
    lines = (lab.folder / run["folder"] / "events.jsonl").read_text().splitlines()
    epochs = [e["metrics"] for e in map(json.loads, lines) if e["event"] == "epoch"]
    assert all(0 <= metrics["val/specificity"] <= 1 for metrics in epochs)
    cells = lab.json("results", "doors")["tables"]["accuracy"]["cells"]
    means = {c["row"]: c["mean"] for c in cells if c["column"] == "test/specificity"}
    assert means == {"clean": None, "signs": None, "teacher": run["metrics"]["test/specificity"], "student": None}


def test_a_table_format_renders_the_table(lab):
    lines = lab("results", "doors", "--format", "outside_lab.formats:Sentences").stdout_text.splitlines()
    accuracy = lab.runs["teacher"]["metrics"]["test/accuracy"]
    assert f"the test/accuracy of teacher is {accuracy:.3g}" in lines
    assert len(lines) == 3, "the accuracy of two classifiers, the specificity of one"


def test_a_listener_hears_of_every_epoch(lab):
    for run in lab.runs.values():
        folder = lab.folder / run["folder"]
        events = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
        losses = [e["metrics"]["val/loss"] for e in events if e["event"] == "epoch"]
        diary = (folder / "logs" / "diary.txt").read_text().splitlines()
        assert diary == [f"{i} of 2: {loss!r}" for i, loss in enumerate(losses, 1)] + [f"{folder.name} is done"]


def test_all_code_of_ones_own_is_in_the_identity(lab):
    def code(job):
        return set(json.loads((lab.folder / lab.runs[job]["folder"] / "run.json").read_text())["code"])

    assert code("signs") == {"outside_lab.quantizers:Sign"}
    assert code("teacher") == {"outside_lab.models:Net", "outside_lab.metrics:specificity"}
    assert code("student") == {"outside_lab.tasks:Agree", "outside_lab.models:Net"}


def test_needed_models_are_frozen(lab, monkeypatch):
    """Weights, statistics and mode are those of the checkpoint, whatever the task that uses them does."""
    from medvq.runs.folder import RunFolder
    from medvq.train import checkpoint
    from medvq.train.trained import open_trained

    monkeypatch.chdir(lab.folder)
    folder = RunFolder(lab.folder / lab.runs["teacher"]["folder"])
    teacher = open_trained(folder)
    parent = torch.nn.ModuleList([teacher.model]).train()
    x = teacher.normalize(torch.rand(6, 3, 16, 16))
    assert not parent[0].training
    assert not any(p.requires_grad for p in parent.parameters())
    assert not teacher.model(x).requires_grad
    stored = load_file(checkpoint.find(folder.checkpoints, "best") / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in teacher.model.state_dict().items())
    assert teacher.classes == tuple(FINDINGS)
    assert teacher.input_shape == (3, 16, 16)
    assert teacher.metrics == lab.runs["teacher"]["metrics"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("scale: 0.5", "scael: 0.5", "did you mean scale?"),
        ("scale: 0.5", "scale: wide", "model.quantizer.scale"),
        ("quantizers:Sign", "quantizers:Sing", "did you mean Sign?"),
        ('name: "outside_lab.quantizers:Sign", scale: 0.5', "name: emma", "did you mean ema?"),
        ("code_dim: 4", "code_dim: 11", "2^11 codes are too many"),
        ("cleaner: {job: clean}, ", "", "the task agree needs an autoencoder"),
        ("cleaner: {", "tissue: {", "the task agree has no role 'tissue'"),
        ("test/specificity", "test/specifity", "did you mean test/specificity?"),
        ("metrics:specificity", "metrics:specifity", "jobs.teacher.metrics[0]"),
        ("listeners:Diary", "listeners:Dairy", "jobs.clean.resources.listeners[0]"),
    ],
)
def test_what_is_wrong_in_the_study_is_said(lab, tmp_path, monkeypatch, old, new, words):
    text = (HERE / "doors.yaml").read_text()
    assert old in text
    (tmp_path / "doors.yaml").write_text(text.replace(old, new))
    monkeypatch.chdir(lab.folder)
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_study(tmp_path / "doors.yaml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('self.needs["cleaner"]', 'self.needs["teacher"]', "declares the role 'cleaner' and never"),
        ("(Objective)", "(object)", "does not derive from medvq.config.settings.Objective"),
    ],
)
def test_what_is_wrong_in_the_package_is_said_when_it_is_loaded(tmp_path, cli, lay, old, new, words):
    lay(tmp_path)
    tasks = tmp_path / "outside_lab" / "tasks.py"
    assert old in tasks.read_text()
    tasks.write_text(tasks.read_text().replace(old, new))
    found = cli("describe", "doors.yaml", code=2)
    assert words in " ".join(found.stderr_text.split())
