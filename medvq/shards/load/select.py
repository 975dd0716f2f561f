"""Choose rows of a dataset: by split, subset, number and mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medvq.errors import DataError, UsageError, suggest
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.dataset.manifest import INSIDE
from medvq.shards.sampling.order import sorting_of
from medvq.shards.sampling.subset import ranks, take

TRAIN = "train"
EVERY_SPLIT = ("all",)


def rows_of(data: Dataset, splits: tuple[str, ...], subset: float, draw: int) -> NDArray[np.int32]:
    """Return the rows of `splits`, in the order of the sha256 of their source bytes.

    Args:
        data: the dataset.
        splits: names of splits, or `EVERY_SPLIT`.
        subset: percent of each class of the train split; the other splits are always whole.
        draw: which ranking the subset is taken from.

    Raises:
        UsageError: the dataset lacks a split.
        DataError: a train sample has no subset rank.
    """
    everything = splits == EVERY_SPLIT
    for split in () if everything else splits:
        if split not in data.splits:
            raise UsageError(f"{data.name} has no split {split!r}", hint=suggest(split, data.splits))
    content = data.columns.leading_bits("sha256")
    keep = None
    if not everything and set(splits) != set(data.splits):
        keep = np.isin(data.column("split"), [data.splits.index(s) for s in splits])
    if subset < 100 and TRAIN in data.splits:
        inside = _in_subset(data, subset, draw)
        keep = inside if keep is None else keep & inside
    if keep is None:
        return sorting_of(content).astype(np.int32)
    rows = np.flatnonzero(keep).astype(np.int32)
    return rows[sorting_of(content[keep])]


def _in_subset(data: Dataset, percent: float, draw: int) -> NDArray[np.bool_]:
    """Return (samples,) False for the train samples that are not in the subset of `percent` %."""
    train = data.column("split") == data.splits.index(TRAIN)
    label = data.column("label")[train]
    rank = data.column("rank")[train] if draw == 0 else _other_ranks(data, train, label, draw)
    if len(rank) and rank.min() < 0:
        raise DataError("a train sample has no subset rank", where=str(data.path), hint="pack the dataset again")
    values, counts = np.unique(label, return_counts=True)
    first = take(dict(zip(values.tolist(), counts.tolist(), strict=True)), percent)
    keep = np.ones(len(data), np.bool_)
    keep[train] = rank < np.asarray([first[v] for v in values.tolist()])[np.searchsorted(values, label)]
    return keep


def _other_ranks(data: Dataset, train: NDArray[np.bool_], label: NDArray[np.int16], draw: int) -> NDArray[np.int32]:
    """Return (train samples,) the rank of each in its class, for another `draw` than that of the index."""
    return ranks(data.columns.texts("sha256", np.flatnonzero(train)), label, data.column("has_mask")[train], draw)


def limited(labels: NDArray[np.int16], limit: int) -> NDArray[np.int64]:
    """Return the positions of `limit` samples in the proportions of the classes.

    The first sample of each class comes before the second sample of any.
    """
    order = np.argsort(labels, kind="stable")
    _, start, count = np.unique(labels[order], return_index=True, return_counts=True)
    within = np.arange(len(labels)) - np.repeat(start, count)
    share = np.empty(len(labels))
    share[order] = within / np.repeat(count, count)
    return np.sort(np.argsort(share, kind="stable")[:limit])


def with_kept_pixels(data: Dataset, rows: Sequence[int] | NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return whether each of `rows` has a mask that keeps a pixel; equal masks are decoded once."""
    from medvq.shards.load.decode import decode_mask

    rows = np.asarray(rows)
    out = np.zeros(len(rows), np.bool_)
    masked = np.flatnonzero(data.column("has_mask")[rows])
    keeps: dict[str, bool] = {}
    for at, sha256 in zip(masked.tolist(), data.columns.texts("mask_sha256", rows[masked]), strict=True):
        if sha256 not in keeps:
            keeps[sha256] = bool((decode_mask(data.read(int(rows[at]), "mask")) >= INSIDE).any())
        out[at] = keeps[sha256]
    return out
