"""A user's own model, task, metric and listener by import path: from the study to the result, in this process and in
workers of Ray and torchrun.
"""

import json

import pytest

from medvq.config.plugins import code_of
from medvq.registry import import_object

NETS = '''\
"""Models of a lab."""
from torch import nn

from medvq.config.settings import ModelSettings
from my_lab.parts.layers import block


class Net(nn.Module):
    """Maps images (B, C, H, W) to logits."""

    class Settings(ModelSettings):
        """Settings of Net."""

        width: int = 4
        """Channels."""

    def __init__(self, config, input_shape, classes):
        super().__init__()
        self.net = nn.Sequential(*block(input_shape[0], config.width), nn.Linear(config.width, classes))

    def forward(self, x):
        return self.net(x)


NUMBER = 3


class NoNet:
    """Not a network."""

    def __init__(self, config, input_shape, classes):
        pass
'''
LAYERS = """\
from torch import nn


def block(inside, width):
    return [nn.Conv2d(inside, width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
"""
TASKS = '''\
from medvq.config import settings
from medvq.config.task_info import CLASSIFICATION, TaskInfo, per_split
from medvq.train.tasks.classify.task import Classify


class Objective(settings.Objective):
    """Settings of Scaled."""

    scale: float = 1.0
    """Weight of the cross-entropy."""
    reconstruct_every: int = 0
    """Must be 0: the model is not an autoencoder."""


class Scaled(Classify):
    """Minimises the cross-entropy times `scale`."""

    info = TaskInfo(
        name="scaled", revision=1, objective=Objective, labels=True, head=True, select="val/accuracy",
        metrics=per_split({"loss": "min", **CLASSIFICATION}),
    )

    def forward(self, batch, draws, epoch):
        losses = super().forward(batch, draws, epoch)
        return {**losses, "loss": self.objective.scale * losses["loss"]}
'''
WATCH = '''\
from medvq.metrics.metric import Metric
from medvq.train.listener import EpochListener, StopTraining

confidence = Metric(
    name="confidence", better="max",
    function=lambda columns, classes: sum(columns[f"p:{c}"].max() for c in classes) / len(classes),
)


class Once(EpochListener):
    """Stops the run after its first epoch, once."""

    def on_epoch(self, epoch):
        stopped = epoch.folder / "stopped-before"
        if not stopped.exists():
            stopped.write_text(repr(epoch.metrics["val/confidence"]))
            return StopTraining("one epoch is enough for today")
'''
STUDY = """\
study: own
data: {cells: {synth: {name: smear, samples: 60, size: 16}, size: 16}}
jobs:
  fit:
    task: my_lab.tasks:Scaled
    model: {name: "my_lab.nets:Net", width: 6}
    data: {use: cells}
    objective: {scale: 0.5}
    train: {epochs: 2, batch_size: 12, optimizer: {lr: 1e-3}}
    metrics: ["my_lab.watch:confidence"]
tables:
  t: {rows: job, columns: metrics, values: [test/accuracy, test/confidence]}
"""


@pytest.fixture
def lab(tmp_path):
    """Write a study and a package with a model and a task, and return their folder."""
    parts = tmp_path / "my_lab" / "parts"
    parts.mkdir(parents=True)
    (tmp_path / "my_lab" / "__init__.py").write_text("")
    (parts / "__init__.py").write_text("")
    (tmp_path / "my_lab" / "nets.py").write_text(NETS)
    (tmp_path / "my_lab" / "tasks.py").write_text(TASKS)
    (tmp_path / "my_lab" / "watch.py").write_text(WATCH)
    (tmp_path / "my_lab" / "unused.py").write_text("x = 1\n")
    (parts / "layers.py").write_text(LAYERS)
    (tmp_path / "own.yaml").write_text(STUDY)
    return tmp_path


@pytest.mark.parametrize(
    ("workers", "launcher"),
    [
        (0, "ray"),
        pytest.param(2, "ray", marks=pytest.mark.slow),
        pytest.param(2, "torchrun", marks=pytest.mark.slow),
    ],
)
def test_all_the_way(lab, cli, workers, launcher):
    listeners = "resources.listeners=['my_lab.watch:Once']"
    command = ("run", "own.yaml", "--workers", workers, "--set", listeners, "--set", f"resources.launcher={launcher}")
    stopped = cli(*command, "--json", code=7)
    assert "stopped  one epoch is enough for today" in stopped.stderr_text
    (run,) = json.loads(stopped.stdout_text)["runs"]
    assert (run["state"], run["metrics"].keys() >= {"val/confidence"}) == ("stopped", True)
    folder = lab / run["folder"]
    last = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["reason"]) == ("stopped", "one epoch is enough for today")
    assert float((folder / "stopped-before").read_text()) == run["metrics"]["val/confidence"]
    (run,) = cli.json(*command)["runs"]
    assert run["state"] == "done"
    assert "test/confidence" in run["metrics"]
    spec = json.loads((folder / "run.json").read_text())
    assert set(spec["code"]) == {"my_lab.nets:Net", "my_lab.tasks:Scaled", "my_lab.watch:confidence"}
    assert all(ref["root"] == str(lab) for ref in spec["code"].values())
    assert spec["listeners"] == {"my_lab.watch:Once": str(lab)}
    layers = cli.json("describe", "own.yaml")["jobs"]["fit"]["layers"]
    assert [layer["shape"] for layer in layers][-1] == [5]
    assert "nothing to do" in cli("run", "own.yaml").stderr_text, "who listens is not science"


def identity(cli):
    return cli.json("run", "own.yaml", "--workers", "0", "--dry-run")["runs"][0]["run"]


def test_what_the_source_says_is_science(lab, cli):
    cli("run", "own.yaml", "--workers", "0")
    before = identity(cli)
    (lab / "my_lab" / "unused.py").write_text("x = 2\n")
    assert identity(cli) == before, "nothing imports it"
    layers = lab / "my_lab" / "parts" / "layers.py"
    layers.write_text(LAYERS.replace("ReLU", "GELU"))
    assert identity(cli) != before, "the network imports it"
    layers.write_text(LAYERS)
    assert identity(cli) == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("my_lab.nets:Net", "my_lab.netz:Net", "there is no module 'my_lab.netz'"),
        ("my_lab.nets:Net", "my_lab.nets:Nett", "did you mean Net?"),
        ("my_lab.nets:Net", "my_lab.nets:NUMBER", "no class 'NUMBER'"),
        ("my_lab.nets:Net", "my_lab.nets:", "not an import path"),
        ("width: 6", "widht: 6", "did you mean width?"),
        ("width: 6", "width: wide", "width"),
        ("my_lab.tasks:Scaled", "my_lab.nets:Net", "is no task"),
        ("scale: 0.5", "scael: 0.5", "did you mean scale?"),
        ("test/accuracy", "test/acuracy", "test/acuracy"),
        ("my_lab.nets:Net", "my_lab.broken:Net", "ZeroDivisionError"),
        ("my_lab.nets:Net", "my_lab.needy:Net", "nowhere_to_be_found"),
        ('my_lab.nets:Net", width: 6', 'my_lab.nets:NoNet"', "is not a torch.nn.Module"),
    ],
)
def test_what_is_wrong_is_said(lab, cli, old, new, words):
    (lab / "my_lab" / "broken.py").write_text("1 / 0\n")
    (lab / "my_lab" / "needy.py").write_text("import nowhere_to_be_found\n")
    study = lab / "own.yaml"
    assert old in STUDY
    study.write_text(STUDY.replace(old, new))
    found = cli("describe", "own.yaml", code=2)
    assert words in found.stderr_text.replace("\n", " ")


def test_a_folder_with_a_single_module_and_relative_imports(tmp_path, monkeypatch):
    """The digest of own code includes imported files of the user, but not installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "one_net.py").write_text("import json\nimport one_part\n\nclass A: ...\n")
    (tmp_path / "one_part.py").write_text("x = 1\n")
    import_object("one_net:A", "model")
    before = code_of("one_net:A")
    assert before.root == str(tmp_path)
    (tmp_path / "one_part.py").write_text("x = 2\n")
    assert code_of("one_net:A").sha256 != before.sha256
    package = tmp_path / "one_pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("def f():\n    from .b import x\n\nclass A: ...\n")
    (package / "b.py").write_text("x = 1\n")
    import_object("one_pack.a:A", "model")
    before = code_of("one_pack.a:A")
    (package / "b.py").write_text("x = 2\n")
    assert code_of("one_pack.a:A").sha256 != before.sha256
