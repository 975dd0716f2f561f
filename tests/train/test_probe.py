"""Compare probes with scikit-learn; hyper-parameters are chosen on validation."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from medvq.errors import ConfigError
from medvq.models.build import build
from medvq.models.svqvae.settings import SVQVAESettings
from medvq.runs.artifacts.predictions import NAME, read_predictions
from medvq.runs.state import status_of
from medvq.train.pixels import Pixels
from medvq.train.tasks.base import Batch, Evaluated, TaskContext
from medvq.train.tasks.probe.info import ProbeObjective
from medvq.train.tasks.probe.task import Probe

CLASSES = ("a", "b", "c")


def probe(**objective):
    torch.manual_seed(0)
    config = SVQVAESettings(
        levels=1, channels=8, residual_blocks=1, residual_channels=4, codebook_size=16, init="normal"
    )
    model = build(config, input_shape=(3, 32, 32))
    pixels = Pixels([([0.0] * 3, [1.0] * 3)], torch.device("cpu"))
    context = TaskContext(objective=ProbeObjective(**objective), pixels=pixels, classes=tuple(CLASSES))
    return Probe(model, context)


def measured(seed, n, noise, classes=3, dims=5):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    feature = 3 * np.eye(classes, dims)[label] + rng.normal(0, noise, (n, dims)) + 10
    return Evaluated(keys=[str(i) for i in range(n)], rows={"label": label, "feature": feature}, totals={},
                     classes=CLASSES)  # fmt: skip


def test_as_a_logistic_regression_by_hand():
    task, train, val, test = probe(strengths=(0.1,)), measured(0, 90, 1), measured(1, 40, 1), measured(2, 80, 1)
    task.fit(train, val)
    mean, std = train.rows["feature"].mean(0), train.rows["feature"].std(0)
    by_hand = LogisticRegression(C=0.1).fit((train.rows["feature"] - mean) / std, train.rows["label"])
    right = by_hand.score((test.rows["feature"] - mean) / std, test.rows["label"])
    found = task.metrics(test)
    assert found["accuracy"] == pytest.approx(right)
    assert set(found) == {f"{k}{m}" for k in ("", "knn_") for m in ("accuracy", "balanced_accuracy", "macro_f1", "auc")}


def test_validation_picks_and_test_does_not():
    """The number of neighbours is chosen on validation, whatever is best on test."""
    task, train, val = probe(neighbours=(1, 31)), measured(0, 120, 2.5), measured(1, 200, 2.5)
    task.fit(train, val)
    assert task._neighbours.steps[-1][1].n_neighbors == 31
    task.fit(train, train)
    assert task._neighbours.steps[-1][1].n_neighbors == 1, (
        "on the training images, each image is its own nearest neighbour"
    )


def test_a_class_without_training_images_has_probability_0():
    task = probe()
    task.fit(measured(0, 60, 1, classes=2), measured(1, 30, 1, classes=2))
    shares = task._probability(task._linear, measured(2, 9, 1))
    assert (shares[:, 2] == 0).all()
    assert shares.sum(1) == pytest.approx(np.ones(9))


@pytest.mark.parametrize(("features", "length"), [("flat", 4 * 8 * 8), ("pooled", 4), ("histogram", 32)])
def test_features(features, length):
    task = probe(features=features).eval()
    x = torch.rand(2, 3, 32, 32)
    rows, _ = task.measure(Batch(keys=(), x=x, label=torch.zeros(2), part=torch.zeros(2, dtype=torch.int64)))
    assert rows["feature"].shape == (2, length)
    if features == "histogram":
        assert rows["feature"].view(2, 2, 16).sum(2).allclose(torch.ones(2, 2))


STUDY = """\
study: small
data: {cells: {dataset: smear, size: 32}}
defaults:
  model: {name: svqvae, levels: 1, channels: 8, residual_blocks: 1, residual_channels: 4, codebook_size: 16}
  data: {use: cells}
  train: {epochs: 2, batch_size: 24, optimizer: {lr: 1e-3}}
jobs:
  pretrain: {task: autoencode}
  probe: {task: probe, needs: {init: {job: pretrain}}, objective: {features: pooled}, matrix: {data.subset: [100, 10]}}
"""


def test_a_curve_of_few_labels_over_one_frozen_network(small):
    runs = small("runs", STUDY)
    assert runs.do("pretrain") == "done"
    specs = [s for s in runs.plan.runs if s.job == "probe"]
    weights = (runs.folder("pretrain").checkpoints / "latest.json").read_text()
    for spec in specs:
        runs.plan = type(runs.plan)(study=runs.plan.study, runs=(spec,), folder=runs.plan.folder)
        assert runs.do("probe") == "done"
        folder = runs.plan.folder_of(spec)
        kept = read_predictions(folder.artifacts / NAME)
        right = float((kept["label"] == kept["predicted"]).mean())
        assert status_of(folder).metrics["test/accuracy"] == pytest.approx(right)
        record = json.loads((folder.artifacts / "probe.json").read_text())
        assert np.shape(record["weight"])[1] == 4
        assert json.loads(folder.result.read_text())["steps"] == 0
    assert (
        runs.plan.folder / runs.plan.runs[0].needs["init"].run / "checkpoints" / "latest.json"
    ).read_text() == weights


def test_without_a_network_it_is_an_error(small):
    with pytest.raises(ConfigError, match="required"):
        small("runs", STUDY.replace("needs: {init: {job: pretrain}}, ", ""))
