"""Figures of codes: how often each code is used, and which code is at each position of an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.runs.artifacts.figures import (
    FAINT,
    INK,
    MOST_IMAGES,
    NORMAL,
    SMALL,
    import_matplotlib,
    new_figure,
    save_figure,
    to_image,
)

Array = NDArray[Any]


def codebook_picture(books: Mapping[str, tuple[Array, Array]], png: Path) -> None:
    """Draw for each codebook a bar chart of the usage of its codes and a scatter plot of the codes.

    The scatter plot shows the codes on their first two principal axes, in the colours of `code_maps`. The area of a
    point grows with the usage of its code; codes that are never chosen are crosses.

    Args:
        books: by name, the codes (K, d) and how often each was chosen in the test split (K,).
        png: file to write.
    """
    import_matplotlib()
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(5.2, 2.3 * len(books), constrained=True)
    for row, (name, (codes, counts)) in enumerate(books.items()):
        order, colours = np.argsort(-counts, kind="stable"), code_colours(codes)
        share = counts / max(counts.sum(), 1)
        bars = figure.add_subplot(len(books), 2, 2 * row + 1)
        bars.bar(np.arange(len(codes)), share[order], color=colours[order], width=1.0)
        used = int((counts > 0).sum())
        bars.set_title(f"{name}: {used} of {len(codes)} codes used", fontsize=NORMAL, color=INK)
        bars.set_xlabel("codes, most used first", fontsize=SMALL)
        bars.set_ylabel("share of positions", fontsize=SMALL)
        places = figure.add_subplot(len(books), 2, 2 * row + 2)
        at = np.pad(principal(codes, 2), ((0, 0), (0, max(0, 2 - codes.shape[1]))))
        live = counts > 0
        places.scatter(*at[live].T, s=6 + 300 * share[live], c=colours[live], linewidths=0.3, edgecolors=INK)
        places.scatter(*at[~live].T, s=8, marker="x", c=FAINT, linewidths=0.6)
        places.set_title(f"codes of {codes.shape[1]} numbers, two principal axes", fontsize=NORMAL, color=INK)
        bars.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        places.xaxis.set_major_locator(MaxNLocator(nbins=4))
        places.margins(0.12)
        for axes in (bars, places):
            axes.tick_params(labelsize=SMALL - 1, length=2, color=FAINT)
            for axis in (axes.xaxis, axes.yaxis):
                axis.get_offset_text().set_fontsize(SMALL - 1)
            for edge in ("top", "right"):
                axes.spines[edge].set_visible(False)
    save_figure(figure, png)


def code_maps(inputs: Array, maps: Mapping[str, tuple[Array, Array]], outputs: Array, png: Path) -> None:
    """Draw inputs, the code at each position for every codebook, and reconstructions; each column is one image.

    Args:
        inputs: (N, H, W, C) in [0, 1]; the first eight are drawn.
        maps: by name of the codebook, indices (N, h, w) and codes (K, d). Similar codes have similar colours.
        outputs: reconstructions, with the shape of `inputs`.
        png: file to write.
    """
    rows: list[tuple[str, list[Array]]] = [("input", [to_image(i) for i in inputs[:MOST_IMAGES]])]
    for name, (indices, codes) in maps.items():
        rows.append((name, list(code_colours(codes)[indices[:MOST_IMAGES]])))
    rows.append(("output", [to_image(i) for i in outputs[:MOST_IMAGES]]))
    n, (height, width) = len(rows[0][1]), inputs.shape[1:3]
    side, gap, margin = 0.95, 0.04, max(0.6, 0.15 + 0.07 * max(len(name) for name, _ in rows))
    across, down = margin + n * side, len(rows) * (side * height / width + gap) + gap
    figure = new_figure(across, down)
    for r, (name, images) in enumerate(rows):
        bottom = down - (r + 1) * (side * height / width + gap)
        middle = (bottom + side * height / width / 2) / down
        figure.text((margin - 0.1) / across, middle, name, ha="right", va="center", fontsize=NORMAL, color=INK)
        place = (margin / across, bottom / down, n * side / across, side * height / width / down)
        axes = figure.add_axes(place)
        # One axes for each row: one for each image would take most of the time.
        axes.imshow(np.concatenate(images, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        for k in range(1, n):
            axes.axvline(k * images[0].shape[1] - 0.5, color="white", linewidth=72 * gap)
        axes.set_axis_off()
    save_figure(figure, png)


def code_colours(codes: Array) -> Array:
    """Return a colour (K, 3) in [0, 1] for each code (K, d), such that similar codes have similar colours.

    The colour channels are the ranks of the codes along three principal axes. One-dimensional codes are grey.
    """
    along = principal(codes, 3)
    rank = along.argsort(0, kind="stable").argsort(0, kind="stable") / max(len(codes) - 1, 1)
    if rank.shape[1] == 1:
        return np.repeat(rank, 3, axis=1)
    if rank.shape[1] == 2:
        rank = np.concatenate([rank, 1 - rank.mean(1, keepdims=True)], axis=1)
    return 0.08 + 0.84 * rank


def principal(codes: Array, axes: int) -> Array:
    """Project codes (K, d) on their first principal axes, (K, min(axes, d)).

    The sign of an axis is chosen such that its largest entry is positive.
    """
    centred = np.asarray(codes, np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:axes]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    found: Array = centred @ (directions * np.sign(largest)).T
    return found
