"""Intervals from what a run kept, whatever its task: the columns of a classifier share a prefix with its metrics."""

import numpy as np
import pytest

from medvq.metrics.bootstrap import Predicted, bootstrap, classification_metric, sample_mean
from medvq.metrics.classification import wilson
from medvq.results.intervals import interval_of
from medvq.runs.artifacts.predictions import NAME, classifier_columns, write_predictions
from medvq.runs.folder import RunFolder

N, CLASSES = 120, ("a", "b", "c")
RNG = np.random.default_rng(5)
LABEL = RNG.integers(0, 3, N)
PROBABILITY = {prefix: RNG.dirichlet(np.ones(3), N) for prefix in ("", "knn_", "mlp_")}
ERROR = RNG.random(N)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with three classifiers."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.artifacts.mkdir()
    columns = {"key": [f"{i:03d}" for i in range(N)], "label": LABEL, "mse": ERROR}
    for prefix, probability in PROBABILITY.items():
        columns |= classifier_columns(probability, CLASSES, prefix)
    write_predictions(folder.artifacts / NAME, columns)
    return folder


@pytest.mark.parametrize("prefix", PROBABILITY)
@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auc"])
def test_each_classifier_has_intervals_of_its_own(folder, prefix, metric):
    p = PROBABILITY[prefix]
    run = Predicted(label=LABEL, predicted=p.argmax(1), classes=3, probability=p)
    resampled = bootstrap([classification_metric(metric, run)], N)
    expected = wilson(int((p.argmax(1) == LABEL).sum()), N) if metric == "accuracy" else resampled
    assert interval_of([folder], f"test/{prefix}{metric}") == expected
    several = bootstrap([classification_metric(metric, run)] * 2, N)
    assert interval_of([folder, folder], f"test/{prefix}{metric}") == several


def test_other_columns_have_the_interval_of_their_mean(folder):
    assert interval_of([folder], "test/mse") == bootstrap([sample_mean(ERROR)], N)
    assert interval_of([folder], "test/cnn_accuracy") is None
    assert interval_of([folder], "val/accuracy") is None


def test_a_classifier_without_probabilities_has_all_but_auc(tmp_path):
    folder = RunFolder(tmp_path)
    folder.artifacts.mkdir()
    said = PROBABILITY[""].argmax(1)
    write_predictions(folder.artifacts / NAME, {"key": [str(i) for i in range(N)], "label": LABEL, "predicted": said})
    assert interval_of([folder], "test/accuracy") == wilson(int((said == LABEL).sum()), N)
    assert interval_of([folder], "test/macro_f1") is not None
    assert interval_of([folder], "test/auc") is None
