"""Metrics of a user's own: from the study to the table, and what is wrong with one is said."""

import logging

import numpy as np
import pytest

from medvq.config.identity import identity, science
from medvq.config.resolve import load_study
from medvq.config.task_info import CLASSIFICATION
from medvq.errors import ConfigError
from medvq.metrics import classification
from medvq.metrics.metric import Metric, MetricError, evaluate_metrics
from medvq.results.cells import fill
from medvq.runs import events
from medvq.runs.artifacts.predictions import read_split
from medvq.runs.collect import collect
from medvq.runs.state import status_of

METRICS = '''\
import numpy as np

from medvq.metrics.metric import Metric


def _specificity(columns, classes):
    """Mean share of the images of other classes that are not taken for a class."""
    label, predicted = columns["label"], columns["predicted"]
    return np.mean([(predicted[label != k] != k).mean() for k in range(len(classes))])


def _confidence(columns, classes):
    return np.stack([columns[f"p:{name}"] for name in classes]).max(0).mean()


specificity = Metric(name="specificity", better="max", function=_specificity)
confidence = Metric(name="confidence", better="min", function=_confidence)
undefined = Metric(name="undefined", better="min", function=lambda columns, classes: float("nan"))
broken = Metric(name="broken", better="min", function=lambda columns, classes: columns["predictd"].mean())
taken = Metric(name="balanced_accuracy", better="max", function=_specificity)
late = Metric(name="specificity_last10", better="max", function=_specificity)
spaced = Metric(name="my metric", better="max", function=_specificity)
turned = Metric(name="turned", better="up", function=_specificity)
'''
STUDY = """\
study: small
data: {cells: {dataset: smear, size: 32, evaluate: [val+test]}}
jobs:
  fit:
    task: classify
    model: {name: svqvae, levels: 1, channels: 8, residual_blocks: 1, codebook_size: 16, head: [8]}
    data: {use: cells}
    train: {epochs: 1, batch_size: 24, optimizer: {lr: 1e-3}, watch_test: true}
    metrics: []
tables:
  t: {rows: job, columns: metrics, values: [test/accuracy]}
"""


@pytest.fixture
def metrics(own_module):
    return own_module("lab_metrics", METRICS)


def study(*names, value="test/accuracy"):
    paths = ", ".join(f"'lab_metrics:{n}'" for n in names)
    return STUDY.replace("metrics: []", f"metrics: [{paths}]").replace("values: [test/accuracy]", f"values: [{value}]")


def test_from_the_study_to_the_table(small, metrics):
    text = study("specificity", "confidence", "undefined", value="test/accuracy, test/specificity, test/undefined")
    runs, plain = small("runs", text), small("plain", STUDY)
    assert runs.do("fit") == plain.do("fit") == "done"
    folder, spec = runs.folder("fit"), runs.spec("fit")
    found, without = status_of(folder).metrics, status_of(plain.folder("fit")).metrics
    for name in ("specificity", "confidence"):
        for split in ("val", "test", "val+test"):
            columns = read_split(folder.artifacts, split)
            value = getattr(metrics, name).function(columns, spec.source.classes or CLASSES)
            assert found[f"{split}/{name}"] == value, "as from the rows that are kept"
        assert found[f"test/{name}_last"] == found[f"test/{name}"], "there is one epoch"
    assert {k: v for k, v in found.items() if "specificity" not in k and "confidence" not in k} == without
    (epoch,) = events.epochs(events.read(folder.events))
    assert epoch["metrics"]["val/specificity"] == found["val/specificity"]
    assert "lab_metrics:undefined is nan on val and is left out" in folder.log(1, 0).read_text()
    weights = [(r.folder("fit").checkpoints / "best-00000004/model.safetensors").read_bytes() for r in (runs, plain)]
    assert weights[0] == weights[1], "what is measured changes nothing of what is learnt"
    collected = collect(runs.plan.folder)
    cells = fill(collected, "t", collected.tables["t"]).cells
    assert cells["fit", "test/specificity"].mean == found["test/specificity"]
    assert cells["fit", "test/undefined"].mean is None


CLASSES = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")


def made(path, own_module, text, names):
    own_module("lab_metrics", text)
    path.write_text(study(*names))
    (point,) = load_study(path).jobs["fit"]
    return identity(science(point, load_study(path).data["cells"], {"cells": "0" * 64}, {}))


def test_metrics_are_part_of_the_identity_if_there_are_any(tmp_path, own_module):
    path = tmp_path / "study.yaml"
    none = made(path, own_module, METRICS, ())
    path.write_text(STUDY.replace("    metrics: []\n", ""))
    (point,) = load_study(path).jobs["fit"]
    assert "metrics" not in science(point, load_study(path).data["cells"], {}, {})
    one = made(path, own_module, METRICS, ("specificity",))
    two = made(path, own_module, METRICS, ("specificity", "confidence"))
    changed = made(path, own_module, METRICS.replace("!= k).mean()", "!= k).min()"), ("specificity",))
    assert len({none, one, two, changed}) == 4
    (point,) = load_study(path).jobs["fit"]
    assert science(point, load_study(path).data["cells"], {}, {})["metrics"] == ["lab_metrics:specificity"]
    assert made(path, own_module, METRICS, ("confidence", "specificity")) == two, "their order does not matter"


@pytest.mark.parametrize(
    ("names", "value", "words"),
    [
        (["specifity"], "test/accuracy", "did you mean specificity?"),
        (["np"], "test/accuracy", "lab_metrics:np is no metric"),
        (["turned"], "test/accuracy", "lab_metrics:turned is no metric"),
        (["spaced"], "test/accuracy", "'my metric' cannot name"),
        (["taken"], "test/accuracy", "the name 'balanced_accuracy'"),
        (["specificity", "specificity"], "test/accuracy", "the name 'specificity'"),
        (["late", "specificity"], "test/accuracy", "the name 'specificity'"),
        (["specificity"], "test/specifity", "did you mean test/specificity?"),
        (["specificity"], "test/specificity_lst", "did you mean test/specificity_last?"),
        ([], "test/specificity", "no task here gives 'test/specificity'"),
    ],
)
def test_what_is_wrong_is_said_when_the_study_is_read(tmp_path, metrics, names, value, words):
    path = tmp_path / "study.yaml"
    path.write_text(study(*names, value=value))
    with pytest.raises(ConfigError) as e:
        load_study(path)
    (problem,) = e.value.problems
    assert words in f"{problem.error} {problem.hint}"
    key = f"9: jobs.fit.metrics[{len(names) - 1}]" if value == "test/accuracy" else "11: tables.t.values"
    assert problem.where == f"{path}:{key}"


def test_an_error_in_a_metric_fails_the_run_with_its_name_and_line(small, metrics):
    runs = small("runs", study("specificity", "broken"))
    with pytest.raises(MetricError):
        runs.do("fit")
    failure = status_of(runs.folder("fit")).failure
    assert failure["error"] == "MetricError: the metric lab_metrics:broken failed on val: KeyError: 'predictd'"
    assert 'columns["predictd"]' in failure["traceback"][-1]


def of(function, **columns):
    metric = Metric(name="m", better="max", function=function)
    return evaluate_metrics({"lab:m": metric}, {"key": ["a", "b"], **columns}, ("x", "y"), "val")


def test_columns_are_read_only_arrays():
    seen = {}
    of(lambda columns, classes: seen.update(columns) or len(classes), share=np.array([0.25, 0.75], np.float32))
    assert seen["key"].dtype == object
    assert list(seen["key"]) == ["a", "b"]
    assert seen["share"].dtype == np.float32
    share = np.array([0.75, 0.25])
    with pytest.raises(MetricError, match="read-only"):
        of(lambda columns, classes: columns["share"].sort(), share=share)
    assert list(share) == [0.75, 0.25]


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(3)])
def test_numbers_are_floats(value):
    found = of(lambda columns, classes: value)
    assert found == {"m": float(value)}
    assert type(found["m"]) is float


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
def test_what_is_not_finite_is_left_out_with_a_warning(value, caplog):
    with caplog.at_level(logging.WARNING):
        assert of(lambda columns, classes: value) == {}
    assert "lab:m is" in caplog.text


@pytest.mark.parametrize("value", [None, "0.5", True, np.bool_(True), np.zeros(2), 1j])
def test_what_is_no_number_is_an_error(value):
    with pytest.raises(MetricError, match=f"lab:m .* on val .*{type(value).__name__}"):
        of(lambda columns, classes: value)


def test_a_metric_may_not_be_called_as_a_column():
    """A table would take the column's mean for the metric."""
    with pytest.raises(MetricError, match="'m', which is a column"):
        of(lambda columns, classes: 1.0, m=np.zeros(2))


def test_a_built_in_metric_is_a_function_and_a_declaration(monkeypatch):
    assert {*classification.OF_CONFUSION, "auc"} == set(CLASSIFICATION)
    monkeypatch.setattr(classification, "OF_CONFUSION", dict(classification.OF_CONFUSION))

    @classification.of_confusion
    def worst_recall(matrix):
        return classification.recall(matrix).min(-1)

    label = np.array([0, 0, 1, 1])
    assert classification.summary(label, np.array([0, 0, 1, 0]))["worst_recall"] == 0.5
