"""Figures show the values of the arrays, are written as a whole, and do not touch pyplot."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from medvq.runs.artifacts import figures


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib figures that were written."""
    kept, write = [], figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda figure, png: (kept.append(figure), write(figure, png)))
    return kept


def texts(figure) -> list[str]:
    return [t.get_text() for t in [*figure.texts, *(t for axes in figure.axes for t in axes.texts)]]


@pytest.mark.parametrize("channels", [1, 3])
def test_reconstructions_show_every_image_and_its_error(tmp_path, drawn, channels):
    inputs = np.random.default_rng(0).random((3, 8, 12, channels))
    levels = [("level 0", inputs + 0.1), ("level 1", inputs * 0)]
    figures.reconstructions(inputs, levels, tmp_path / "r.png")
    (figure,) = drawn
    assert len(figure.axes) == 9
    assert texts(figure).count("10") == 3  # 0.1 ** 2, in thousandths, beyond [0, 1] too
    assert {f"{1000 * (image**2).mean():.3g}" for image in inputs} <= set(texts(figure))
    assert {"input", "level 0", "level 1"} <= set(texts(figure))
    shown = figure.axes[3].images[0].get_array()
    np.testing.assert_allclose(shown, np.clip(inputs[0] + 0.1, 0, 1).reshape(shown.shape))
    Image.open(tmp_path / "r.png").verify()


def test_reconstructions_draw_the_first_eight(tmp_path, drawn):
    inputs = np.zeros((20, 4, 4, 1))
    figures.reconstructions(inputs, [("level 0", inputs)], tmp_path / "r.png")
    assert len(drawn[0].axes) == 16


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (3, 4, 4, 1), (3, 4, 4)])
def test_reconstructions_of_another_shape_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="level 0"):
        figures.reconstructions(np.zeros((3, 4, 4, 3)), [("level 0", np.zeros(shape))], tmp_path / "r.png")


def test_confusion_shows_counts_recall_and_precision(tmp_path, drawn):
    figures.confusion([[8, 2, 0], [1, 1200, 0], [0, 0, 0]], ["a", "b", "c"], tmp_path / "c.png")
    (axes,) = drawn[0].axes
    said = texts(drawn[0])
    assert {"8", "2", "1,200", "80.0 %", "88.9 %", "99.9 %", "99.8 %"} <= set(said)
    assert said.count("–") == 2
    assert axes.get_title() == "accuracy 99.8 %, balanced 90.0 %, n = 1,211"
    np.testing.assert_allclose(axes.images[0].get_array()[0], [0.8, 0.2, 0])


def test_a_large_confusion_matrix_is_drawn_without_numbers(tmp_path, drawn):
    figures.confusion(np.eye(40, dtype=int), [f"class {i}" for i in range(40)], tmp_path / "c.png")
    assert texts(drawn[0]) == []


def test_a_matrix_that_is_not_of_the_classes_is_refused(tmp_path):
    with pytest.raises(ValueError):
        figures.confusion(np.eye(3), ["a", "b"], tmp_path / "c.png")


def test_curves_have_a_panel_for_each_kind_and_survive_gaps(tmp_path, drawn):
    history = [
        {"epoch": e, "metrics": {"train/loss": 2.0**-e, "val/loss": 2.0**-e, "train/commitment/level0": 0.1}}
        for e in range(1, 9)
    ]
    history[3]["metrics"] = {"train/loss": 0.0625, "train/commitment/level1": 0.2}
    figures.curves(history, tmp_path / "h.png")
    panels = {axes.get_title(): axes for axes in drawn[0].axes}
    assert list(panels) == ["loss", "commitment"]
    lines = {line.get_label(): line.get_xdata().tolist() for axes in panels.values() for line in axes.lines}
    assert lines["train"] == list(range(1, 9))
    assert lines["val"] == [1, 2, 3, 5, 6, 7, 8]
    assert lines["train level1"] == [4]
    assert (panels["loss"].get_yscale(), panels["commitment"].get_yscale()) == ("log", "linear")


def test_levels_and_splits_can_be_told_apart(tmp_path, drawn):
    """Levels of a single split differ in colour and marker; a split has one colour in every panel."""
    names = ["train/loss", "val/loss", "test/loss", "val+test/loss", "val+test/accuracy", "test/accuracy"]
    names += [f"train/reconstruction/level{i}" for i in range(3)]
    figures.curves([{"epoch": 1, "metrics": dict.fromkeys(names, 0.5)}], tmp_path / "h.png")
    pens = [(line.get_label(), line.get_color(), line.get_marker()) for axes in drawn[0].axes for line in axes.lines]
    levels = [pen[1:] for pen in pens if "level" in pen[0]]
    assert len({colour for colour, _ in levels}) == len({mark for _, mark in levels}) == 3
    for split in ("test", "val+test"):
        assert len({colour for name, colour, _ in pens if name == split}) == 1
    assert len({colour for name, colour, _ in pens if " " not in name}) == 4


def test_curves_of_no_epoch_are_an_empty_picture(tmp_path):
    figures.curves([], tmp_path / "h.png")
    Image.open(tmp_path / "h.png").verify()


def test_the_same_figure_has_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        figures.confusion(np.eye(2, dtype=int), ["a", "b"], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_pyplot_is_left_alone_and_importing_costs_no_matplotlib(tmp_path):
    code = (
        "import sys; from pathlib import Path; from medvq.runs.artifacts import figures\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
        f"figures.curves([{{'epoch': 1, 'metrics': {{'val/loss': 1.0}}}}], Path({str(tmp_path / 'h.png')!r}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
