"""Figures of a run: reconstructions, confusion matrix, training curves.

They are drawn with matplotlib's Agg canvas and without pyplot, so that they need no display and change no global
state. A file appears complete or not at all.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvq.files import write_atomic
from medvq.metrics import classification

INK, FAINT = "#222222", "#9a9a9a"
# Paul Tol's "bright" colours, which people with colour blindness can tell apart.
SPLIT_COLOURS = {"train": "#4477aa", "val": "#ee6677", "test": "#228833", "val+test": "#aa3377"}
OTHER_COLOURS = ("#66ccee", "#ccbb44", "#bbbbbb")
PART_COLOURS = ("#4477aa", "#ccbb44", "#aa3377", "#66ccee")
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
SMALL, NORMAL = 7, 8
DPI = 200
MOST_IMAGES, MOST_NAMED = 8, 20


def reconstructions(inputs: ArrayLike, levels: Sequence[tuple[str, ArrayLike]], png: Path) -> None:
    """Draw a row of inputs and a row for each level, with the mean squared error below each image.

    Args:
        inputs: (N, H, W, C) in [0, 1], C = 1 or 3; the first eight are drawn.
        levels: name of each level and its images, with the shape of `inputs`. Values outside [0, 1] are clipped for
            display, but not for the error.
        png: file to write.

    Raises:
        ValueError: the shape of a level differs from that of the inputs.
    """
    truth = np.asarray(inputs, np.float64)[:MOST_IMAGES]
    rows = [("input", truth)] + [(name, np.asarray(images, np.float64)[:MOST_IMAGES]) for name, images in levels]
    for name, images in rows:
        if images.shape != truth.shape or truth.ndim != 4:
            raise ValueError(f"{name}: images of shape {images.shape}, inputs of {truth.shape}")
    n, height, width = truth.shape[:3]
    cell_w, caption, gap = 0.95, 0.17, 0.04
    margin = max(0.65, 0.2 + 0.07 * max(len(name) for name, _ in rows))
    cell_h = cell_w * height / width
    across, down = margin + n * (cell_w + gap), len(rows) * cell_h + len(levels) * caption + 3 * gap
    figure = new_figure(across, down)
    top = down - gap
    for r, (name, images) in enumerate(rows):
        bottom = top - cell_h
        side, under = (margin - 0.1) / across, (bottom - 0.02) / down
        figure.text(side, (bottom + cell_h / 2) / down, name, ha="right", va="center", fontsize=NORMAL, color=INK)
        if r:
            figure.text(side, under, "10³ × MSE", ha="right", va="top", fontsize=SMALL - 1, color=FAINT)
        for k in range(n):
            left = margin + k * (cell_w + gap)
            axes = figure.add_axes((left / across, bottom / down, cell_w / across, cell_h / down))
            axes.imshow(to_image(images[k]), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            if r:
                error = f"{1000 * float(((images[k] - truth[k]) ** 2).mean()):.3g}"
                middle = (left + cell_w / 2) / across
                figure.text(middle, under, error, ha="center", va="top", fontsize=SMALL - 1, color=INK)
        top = bottom - (caption if r else 2 * gap)
    save_figure(figure, png)


def confusion(matrix: ArrayLike, classes: Sequence[str], png: Path) -> None:
    """Draw a confusion matrix with recall at its right and precision above it.

    Cells show counts; their shade is the share of the true class. Matrices of more than 20 classes have no text.

    Args:
        matrix: (K, K) counts; rows are true classes, columns predicted ones.
        classes: the K names.
        png: file to write.

    Raises:
        ValueError: the matrix is not K x K.
    """
    counts = np.asarray(matrix)
    k = len(classes)
    if counts.shape != (k, k):
        raise ValueError(f"a matrix of shape {counts.shape} for {k} classes")
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    named = k <= MOST_NAMED
    side = max(2.0, 0.52 * k) if named else 4.5
    room = 0.35 + (0.062 * max(map(len, classes)) if named else 0.25)
    width, height = room + side + 0.65, room + side + 0.5
    figure = new_figure(width, height)
    axes = figure.add_axes((room / width, room / height, side / width, side / height))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    axes.set(xlabel="predicted", ylabel="true")
    axes.xaxis.label.set_size(NORMAL)
    axes.yaxis.label.set_size(NORMAL)
    for edge in axes.spines.values():
        edge.set_visible(False)
    if named:
        axes.set_xticks(range(k), classes, rotation=40, ha="right", rotation_mode="anchor", fontsize=SMALL)
        axes.set_yticks(range(k), classes, fontsize=SMALL)
        axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2)
        for i, j in np.ndindex(k, k):
            colour = "white" if share[i, j] > 0.55 else INK if counts[i, j] else FAINT
            axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=SMALL, color=colour)
        for i, (found, exact) in enumerate(
            zip(classification.recall(counts), classification.precision(counts), strict=True)
        ):
            _beside(axes, (k - 0.5, i), (5, 0), _percent(found), INK, ha="left", va="center")
            _beside(axes, (i, -0.5), (0, 4), _percent(exact), INK, ha="center", va="bottom")
        _beside(axes, (k - 0.5, -0.5), (5, 4), "recall", FAINT, ha="left", va="bottom")
        _beside(axes, (-0.5, -0.5), (-4, 4), "precision", FAINT, ha="right", va="bottom")
    axes.tick_params(which="both", length=0, labelsize=SMALL)
    plain, balanced = classification.accuracy(counts), classification.balanced_accuracy(counts)
    whole = f"accuracy {_percent(plain)}, balanced {_percent(balanced)}"
    axes.set_title(f"{whole}, n = {counts.sum():,}", fontsize=NORMAL, color=INK, pad=18 if named else 6)
    save_figure(figure, png)


def curves(history: Sequence[Mapping[str, Any]], png: Path) -> None:
    """Draw all metrics over the epochs: one panel for each kind of metric, one colour for each split, the loss first.

    The kind of the metric `train/reconstruction/level0` is `reconstruction`. The axis of a panel is logarithmic if all
    values are positive and the largest is more than 30 times the smallest.

    Args:
        history: the epochs in order, `{"epoch": 1, "metrics": {"train/loss": 0.4, "val/accuracy": 0.8, …}}`, from
            `events.epochs`. A metric may be missing in some epochs.
        png: file to write.
    """
    import_matplotlib()
    from matplotlib.ticker import MaxNLocator

    names = sorted({name for e in history for name in e["metrics"]}, key=_order)
    panels: dict[str, list[str]] = {}
    for name in names:
        panels.setdefault(name.split("/")[1] if "/" in name else name, []).append(name)
    across = min(max(len(panels), 1), 3)
    down = -(-max(len(panels), 1) // across)
    figure = new_figure(2.5 * across, 1.95 * down, constrained=True)
    for i, (kind, members) in enumerate(panels.items()):
        axes = figure.add_subplot(down, across, i + 1)
        axes.set_xlim(min(e["epoch"] for e in history) - 0.5, max(e["epoch"] for e in history) + 0.5)
        lows, highs = [], []
        for name in members:
            points = [(e["epoch"], e["metrics"][name]) for e in history if name in e["metrics"]]
            epoch, value = (np.asarray(v, np.float64) for v in zip(*points, strict=True))
            split, _, rest = name.partition("/")
            part = rest.partition("/")[2]
            colour, dash, mark = _pen(split, part, members)
            axes.plot(
                epoch, value, dash, color=colour, label=" ".join([split, part]).strip(), linewidth=1.2,
                marker=mark if len(points) < 3 else None, markersize=3,
            )  # fmt: skip
            lows.append(value.min())
            highs.append(value.max())
        if min(lows) > 0 and max(highs) > 30 * min(lows):
            axes.set_yscale("log")
        axes.set_title(kind.replace("_", " "), fontsize=NORMAL, color=INK)
        axes.set_xlabel("epoch", fontsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.tick_params(which="both", labelsize=SMALL - 1, length=2, color=FAINT)
        axes.yaxis.get_offset_text().set_fontsize(SMALL - 1)
        axes.grid(color="#e6e6e6", linewidth=0.5)
        axes.set_axisbelow(True)
        for edge in ("top", "right"):
            axes.spines[edge].set_visible(False)
        for edge in ("left", "bottom"):
            axes.spines[edge].set_color(FAINT)
        axes.legend(fontsize=SMALL - 1, frameon=False, handlelength=1.6)
    save_figure(figure, png)


def _pen(split: str, part: str, members: Sequence[str]) -> tuple[str, str, str]:
    """Return colour, dashes and marker of a curve.

    The split determines the colour, and the part of the metric, such as the level, determines dashes and marker. If
    all curves have the same split, the part determines the colour as well.
    """
    splits = list(dict.fromkeys(m.partition("/")[0] for m in members))
    parts = sorted({m.partition("/")[2].partition("/")[2] for m in members})
    which = parts.index(part)
    colour = SPLIT_COLOURS.get(split, OTHER_COLOURS[splits.index(split) % len(OTHER_COLOURS)])
    if len(splits) == 1 and len(parts) > 1:
        colour = PART_COLOURS[which % len(PART_COLOURS)]
    return colour, DASHES[which % len(DASHES)], MARKERS[which % len(MARKERS)]


def _order(name: str) -> tuple[bool, str, list[str], str]:
    """Return a sort key: the loss before other kinds; within a kind, train before val before test."""
    split, _, rest = name.partition("/")
    kind, _, part = (rest or split).partition("/")
    known = list(SPLIT_COLOURS)
    return kind != "loss", kind, [f"{known.index(split)}" if split in known else split], part


def _beside(
    axes: Any, at: tuple[float, float], offset: tuple[float, float], text: str, colour: str, **how: str
) -> None:
    """Write a small text at an offset, in points, from a position."""
    axes.annotate(text, at, offset, textcoords="offset points", fontsize=SMALL - 1, color=colour, **how)


def to_image(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an image (H, W, 1 or 3) in the form that imshow takes, clipped to [0, 1]."""
    return np.clip(image[..., 0] if image.shape[-1] == 1 else image, 0, 1)


def _percent(share: Any) -> str:
    return f"{100 * float(share):.1f} %" if np.isfinite(share) else "–"


def import_matplotlib() -> None:
    """Import matplotlib without MPLBACKEND, which may name a backend that is not installed; none is needed here."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib  # noqa: F401
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def new_figure(width: float, height: float, constrained: bool = False) -> Any:
    """Return an empty figure of this size in inches."""
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained" if constrained else None, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, png: Path) -> None:
    """Write a figure as PNG. The file appears complete or not at all."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    write_atomic(png, out.getvalue())
