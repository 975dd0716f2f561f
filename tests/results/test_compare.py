"""Comparisons of a table's rows, from the rows that runs keep of every image."""

import numpy as np
import pytest

from medvq.results.compare import compare
from medvq.results.intervals import interval_of
from medvq.runs.artifacts.predictions import NAME, classifier_columns, write_predictions
from medvq.runs.folder import RunFolder

LABEL = np.random.default_rng(0).integers(0, 2, 200)


def run(path, right, seed, keys=None, **columns):
    """A run that is right with this probability."""
    folder = RunFolder(path)
    folder.artifacts.mkdir(parents=True)
    said = np.where(np.random.default_rng(seed).random(200) < right, LABEL, 1 - LABEL)
    keys = keys or [f"{i:03d}" for i in range(200)]
    columns = columns or {"key": keys, "label": LABEL, **classifier_columns(np.eye(2)[said], ("a", "b"))}
    write_predictions(folder.artifacts / NAME, columns)
    return folder


def test_one_run_each_is_mcnemars_test(tmp_path):
    a, b = run(tmp_path / "a", 0.95, 1), run(tmp_path / "b", 0.7, 2)
    found = compare("a", "b", 100, [a], [b], "test/accuracy")
    assert found.test == "McNemar"
    assert found.p < 1e-6
    assert found.low > 0.1
    assert compare("b", "a", 100, [b], [a], "test/accuracy").value == pytest.approx(-found.value)
    assert compare("a", "b", 100, [a], [b], "test/macro_f1").test == "paired bootstrap"


def test_several_runs_are_a_paired_bootstrap(tmp_path):
    ours = [run(tmp_path / f"a{i}", 0.9, i) for i in range(3)]
    theirs = [run(tmp_path / f"b{i}", 0.9, 10 + i) for i in range(2)]
    found = compare("a", "b", 100, ours, theirs, "test/accuracy")
    assert (found.test, found.n) == ("paired bootstrap", 200)
    assert found.low < 0 < found.high
    assert found.p > 0.05


def test_other_images_or_too_little_kept_give_nothing(tmp_path):
    a = run(tmp_path / "a", 0.9, 1)
    other = run(tmp_path / "b", 0.9, 2, keys=[f"x{i}" for i in range(200)])
    assert compare("a", "b", 100, [a], [other], "test/accuracy") is None
    assert compare("a", "b", 100, [a], [a], "val/accuracy") is None
    assert compare("a", "b", 100, [a], [a], "test/accuracy_last") is None
    assert compare("a", "b", 100, [a], [RunFolder(tmp_path / "none")], "test/accuracy") is None


def test_errors_of_images_that_are_undefined_are_left_out(tmp_path):
    values = np.linspace(0, 1, 200)
    some = np.where(np.arange(200) % 2, np.nan, values)
    a = run(tmp_path / "a", 1, 0, key=[str(i) for i in range(200)], ssim=some)
    b = run(tmp_path / "b", 1, 0, key=[str(i) for i in range(200)], ssim=some - 0.1)
    found = compare("a", "b", "x", [a], [b], "test/ssim")
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_computed_is_left_out_with_its_reason(tmp_path):
    """The area under the curve of images of one class."""
    columns = {"key": [str(i) for i in range(20)], "label": np.zeros(20, np.int64)}
    scores = np.random.default_rng(0).random((2, 20, 2))
    a, b = (
        run(tmp_path / name, 1, 0, **columns, **classifier_columns(s, ("x", "y")))
        for name, s in zip("ab", scores, strict=True)
    )
    found = compare("a", "b", 100, [a], [b], "test/auc")
    assert (found.value, found.low, found.high, found.p) == (None, None, None, None)
    assert "auc has no value for these 20 images" in found.reason
    assert interval_of([a], "test/auc") is None
