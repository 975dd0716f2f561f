"""Pictures of codes: how a codebook is used, and which code stands where in an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.runs.artifacts.figures import FAINT, INK, MOST_IMAGES, NORMAL, SMALL, blank, picture, save

Array = NDArray[Any]


def codebook_picture(books: Mapping[str, tuple[Array, Array]], png: Path) -> None:
    """A row for each codebook: how often each code is used, most used first, and where the codes lie.

    Args:
        books: by name, the codes (K, d) and how often each was chosen over the test split (K,). Codes lie on their
            first two principal axes, in the colours of `code_maps`, with an area that grows with their use; codes
            that are never chosen are crosses.
        png: where to write.
    """
    from matplotlib.ticker import MaxNLocator

    figure = blank(5.2, 2.3 * len(books), constrained=True)
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
    save(figure, png)


def code_maps(inputs: Array, maps: Mapping[str, tuple[Array, Array]], outputs: Array, png: Path) -> None:
    """Inputs, the code at each position of every codebook, and reconstructions, an image a column.

    Args:
        inputs: (N, H, W, C) in [0, 1]; the first eight are drawn.
        maps: by codebook, indices (N, h, w) and codes (K, d); like codes have like colours.
        outputs: what came back, like `inputs`.
        png: where to write.
    """
    rows: list[tuple[str, list[Array]]] = [("input", [picture(i) for i in inputs[:MOST_IMAGES]])]
    for name, (indices, codes) in maps.items():
        rows.append((name, list(code_colours(codes)[indices[:MOST_IMAGES]])))
    rows.append(("output", [picture(i) for i in outputs[:MOST_IMAGES]]))
    n, (height, width) = len(rows[0][1]), inputs.shape[1:3]
    side, gap, margin = 0.95, 0.04, max(0.6, 0.15 + 0.07 * max(len(name) for name, _ in rows))
    across, down = margin + n * side, len(rows) * (side * height / width + gap) + gap
    figure = blank(across, down)
    for r, (name, images) in enumerate(rows):
        bottom = down - (r + 1) * (side * height / width + gap)
        middle = (bottom + side * height / width / 2) / down
        figure.text((margin - 0.1) / across, middle, name, ha="right", va="center", fontsize=NORMAL, color=INK)
        place = (margin / across, bottom / down, n * side / across, side * height / width / down)
        axes = figure.add_axes(place)
        # One picture a row: an axes for each image costs more time than all the rest.
        axes.imshow(np.concatenate(images, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        for k in range(1, n):
            axes.axvline(k * images[0].shape[1] - 0.5, color="white", linewidth=72 * gap)
        axes.set_axis_off()
    save(figure, png)


def code_colours(codes: Array) -> Array:
    """A colour (K, 3) in [0, 1] for each code (K, d): ranks along three principal axes, so that like codes look alike.

    Codes of one number are grey.
    """
    along = principal(codes, 3)
    rank = along.argsort(0, kind="stable").argsort(0, kind="stable") / max(len(codes) - 1, 1)
    if rank.shape[1] == 1:
        return np.repeat(rank, 3, axis=1)
    if rank.shape[1] == 2:
        rank = np.concatenate([rank, 1 - rank.mean(1, keepdims=True)], axis=1)
    return 0.08 + 0.84 * rank


def principal(codes: Array, axes: int) -> Array:
    """Codes (K, d) on their first principal axes, (K, min(axes, d)); each axis points to its largest entry."""
    centred = np.asarray(codes, np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:axes]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    found: Array = centred @ (directions * np.sign(largest)).T
    return found
