"""Nested, stratified subsets: one ranking per class; p % is the first floor(p·N/100) of a class of N, at least one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt


def ranks(
    keys: Sequence[str],
    labels: Sequence[int] | npt.NDArray[np.integer],
    has_mask: Sequence[bool] | npt.NDArray[np.bool_],
    draw: int = 0,
) -> npt.NDArray[np.int32]:
    """Return the rank (from 0) of each sample in its class; a subset takes the first ranks, so that subsets nest.

    Args:
        keys: one text per sample that identifies its content. Datasets use the sha256 of the source bytes, so that
            renaming files changes no subset.
        labels: one class per sample; the unlabelled samples, -1, count as a class.
        has_mask: whether the sample has a mask. Among the first n of a class with M masks of N samples,
            floor((n+1)·M/N) have one, as in the released subsets of Raabin-WBC.
        draw: another number gives another ranking.

    Returns:
        int32 ranks, in the order given.
    """
    label_of, masked = np.asarray(labels, np.int64), np.asarray(has_mask, np.bool_)
    drawn = np.fromiter((_drawn(draw, k) for k in keys), np.uint64, len(keys))
    out = np.empty(len(keys), np.int32)
    # Equal keys are copies of one image; the one with a mask comes first, then the first given.
    order = np.lexsort((~masked, drawn, label_of))
    starts = np.flatnonzero(np.diff(label_of[order], prepend=np.int64(-2)))
    for rows in np.split(order, starts[1:]) if len(order) else []:
        out[_interleaved(rows, masked)] = np.arange(len(rows), dtype=np.int32)
    return out


def _drawn(draw: int, key: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{draw}/{key}".encode(), digest_size=8).digest(), "big")


def _interleaved(rows: npt.NDArray[np.int64], masked: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return `rows` of one class, in drawn order, with masked samples moved to the ranks that the rule gives them."""
    with_mask, without = rows[masked[rows]], rows[~masked[rows]]
    n, m = len(rows), len(with_mask)
    wanted = np.minimum((np.arange(2, n + 2) * m) // n, np.minimum(np.arange(1, n + 1), m))
    places = np.diff(wanted, prepend=0) > 0
    out = np.empty_like(rows)
    out[places], out[~places] = with_mask, without
    return out


def take(counts: Mapping[int, int] | Sequence[int], percent: float) -> dict[int, int]:
    """Return how many samples of each class are in the `percent` subset, {label: n}; exact for decimal percentages.

    Raises:
        ValueError: `percent` is not in (0, 100].
    """
    if not 0 < percent <= 100:
        raise ValueError(f"a subset is above 0 and at most 100 %, not {percent}")
    share = Fraction(str(percent)) / 100
    pairs = counts.items() if isinstance(counts, Mapping) else enumerate(counts)
    return {label: max(1, int(share * n)) if n else 0 for label, n in pairs}
