"""Classification metrics against scikit-learn, or computed by hand if scikit-learn refuses."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from medvq.metrics import classification


def some(seed: int, n: int = 200, k: int = 5, ties: bool = False):
    rng = np.random.default_rng(seed)
    label = rng.choice(k, n, p=np.arange(1, k + 1) / (k * (k + 1) / 2))
    probability = rng.dirichlet(np.ones(k), n) + 0.4 * np.eye(k)[label]
    probability /= probability.sum(1, keepdims=True)
    if ties:
        probability = np.round(probability, 1)
    return label, probability.argmax(1), probability


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [2, 5])
def test_as_scikit_learn(seed, k):
    label, predicted, probability = some(seed, k=k)
    found = classification.summary(label, predicted, probability)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(label, predicted))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(label, predicted))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(label, predicted, average="macro"))
    scores = probability[:, 1] if k == 2 else probability
    assert found["auc"] == pytest.approx(sk.roc_auc_score(label, scores, multi_class="ovr", average="macro"))
    matrix = classification.confusion(label, predicted, k)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(label, predicted))
    p, r, f, n = sk.precision_recall_fscore_support(label, predicted, zero_division=0)
    np.testing.assert_allclose(classification.precision(matrix), p)
    np.testing.assert_allclose(classification.recall(matrix), r)
    np.testing.assert_allclose(classification.f1(matrix), f)
    assert [row["samples"] for row in classification.per_class(matrix, list("abcde")[:k])] == list(n)


def test_as_torchmetrics(torchvision):
    """torchmetrics imports torchvision, which the fixture makes possible."""
    from torchmetrics.functional import classification as theirs

    label, predicted, probability = some(3)
    y, p = torch.from_numpy(label), torch.from_numpy(probability)
    found = classification.summary(label, predicted, probability)
    assert found["accuracy"] == pytest.approx(float(theirs.multiclass_accuracy(p, y, 5, average="micro")))
    assert found["balanced_accuracy"] == pytest.approx(float(theirs.multiclass_accuracy(p, y, 5, average="macro")))
    assert found["macro_f1"] == pytest.approx(float(theirs.multiclass_f1_score(p, y, 5, average="macro")))
    assert found["auc"] == pytest.approx(float(theirs.multiclass_auroc(p, y, 5)))
    matrix = theirs.multiclass_confusion_matrix(p, y, 5).numpy()
    np.testing.assert_array_equal(classification.confusion(label, predicted, 5), matrix)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_absent_classes_are_averaged_as_scikit_learn_does(pairs):
    label, predicted = np.array(pairs).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f1, balanced = sk.f1_score(label, predicted, average="macro"), sk.balanced_accuracy_score(label, predicted)
    found = classification.summary(label, predicted, classes=4)
    assert found == pytest.approx(
        {"accuracy": np.mean(label == predicted), "balanced_accuracy": balanced, "macro_f1": f1}
    )


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_auc_is_that_of_repeated_samples(ties):
    label, _, probability = some(7, n=60, ties=ties)
    weights = np.random.default_rng(0).integers(0, 4, (3, 60))
    found = classification.class_auc(label, probability, weights)
    assert found.shape == (3, 5)
    for row, w in zip(found, weights, strict=True):
        for k in range(5):
            one = sk.roc_auc_score(np.repeat(label == k, w), np.repeat(probability[:, k], w))
            assert row[k] == pytest.approx(one)


def test_classes_that_are_not_there():
    label, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    probability = np.eye(4)[predicted]
    matrix = classification.confusion(label, predicted, 4)
    np.testing.assert_array_equal(classification.recall(matrix), [0.5, 1, np.nan, np.nan])
    np.testing.assert_array_equal(classification.precision(matrix), [1, 1, 0, np.nan])
    np.testing.assert_array_equal(classification.f1(matrix), [2 / 3, 1, 0, np.nan])
    assert classification.precision([[0, 2], [0, 2]])[0] == 0
    np.testing.assert_array_equal(classification.class_auc(label, probability), [0.75, 1, np.nan, np.nan])
    assert classification.per_class(matrix, list("abcd"))[3] == {
        "class": "d", "samples": 0, "precision": None, "recall": None, "f1": None,
        "precision_ci": None, "recall_ci": None,
    }  # fmt: skip


def test_what_is_undefined_is_left_out():
    only = np.zeros(3, int)
    assert classification.summary(only, only, np.eye(2)[only]) == {"accuracy": 1, "balanced_accuracy": 1, "macro_f1": 1}
    assert classification.summary(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3))) == {}


def test_leading_axes_go_at_once():
    matrices = np.random.default_rng(0).integers(0, 5, (2, 3, 4, 4))
    for metric in (*classification.OF_CONFUSION.values(), classification.f1):
        every = metric(matrices)
        assert every.shape[:2] == (2, 3)
        np.testing.assert_allclose(every[1, 2], metric(matrices[1, 2]))


@pytest.mark.parametrize(
    ("label", "predicted"), [([0, 1], [0]), ([0, 3], [0, 1]), ([0, -1], [0, 1]), ([0.0, 1.0], [0, 1])]
)
def test_what_is_no_class_is_refused(label, predicted):
    with pytest.raises(ValueError):
        classification.confusion(label, predicted, 3)
