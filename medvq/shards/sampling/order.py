"""The order of samples: which of a view's samples make up every global batch of an epoch.

An order is a pure function of the view (`OrderFacts.key`), the seed and the epoch. The number of workers and of loader
processes only decides who reads which slice of a global batch. Bits come from Philox (`random_raw`) and a
stable sort, which are the same in every version of numpy; its `Generator` methods are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvq.keys import draw_key

Ints = NDArray[np.int64]

_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class OrderFacts:
    """Everything that an order depends on, except seed, epoch and batch size."""

    key: Mapping[str, Any]
    """`View.key()`: the canonical description of the view."""
    samples: int
    """Number of samples in the view."""
    groups: NDArray[np.integer[Any]] | None = None
    """(samples,) group of each sample for draws with replacement; None for a permutation."""
    mass: tuple[float, ...] = ()
    """Relative probability of each group; within a group all samples are equally likely."""
    draws: int = 0
    """Number of draws in an epoch, if `groups` is given."""

    def __len__(self) -> int:
        """Number of samples in an epoch, before the last batch is filled."""
        return self.samples if self.groups is None else self.draws


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Return the number of global batches that hold `samples` samples."""
    return -(-samples // batch_size)


def epoch_order(facts: OrderFacts, seed: int, epoch: int, batch_size: int) -> Ints:
    """Return (steps, batch_size) positions in the view; the last batch is filled from the start of the order."""
    key = draw_key(facts.key, seed, epoch, "order")
    if facts.groups is None:
        order = sorting_of(random_bits(key, facts.samples))
    else:
        order = _draw(key, facts.groups, facts.mass, facts.draws)
    steps = steps_per_epoch(len(order), batch_size)
    if steps * batch_size != len(order):
        order = np.resize(order, steps * batch_size)
    return order.reshape(steps, batch_size)


def random_bits(key: int, n: int) -> NDArray[np.uint64]:
    """Return (n,) uniform 64-bit words of the stream `key`."""
    return np.random.Philox(key=key).random_raw(n)


def random_unit(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return uniform floats in [0, 1), made of 53 bits of each 64-bit word."""
    unit: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return unit


def random_below(bits: NDArray[np.uint64], below: NDArray[np.integer[Any]] | int) -> Ints:
    """Return uniform integers in [0, below), made of 64-bit words; the bias is smaller than below / 2^53."""
    return (random_unit(bits) * below).astype(np.int64)


def sorting_of(values: NDArray[Any]) -> Ints:
    """Return the stable argsort of `values`. The faster unstable sort is used if no two values are equal."""
    order = np.argsort(values)
    ordered = values[order]
    if np.any(ordered[1:] == ordered[:-1]):
        order = np.argsort(values, kind="stable")
    return order


def _draw(key: int, groups: NDArray[np.integer[Any]], mass: tuple[float, ...], draws: int) -> Ints:
    """Return (draws,) positions drawn with replacement: first a group by its mass, then one of its samples."""
    members = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups, minlength=len(mass))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    edges = np.cumsum(np.asarray(mass, dtype=np.float64))
    words = random_bits(key, 2 * draws).reshape(draws, 2)
    order = np.empty(draws, np.int64)
    for start in range(0, draws, _BLOCK):
        block = words[start : start + _BLOCK]
        group = np.minimum(np.searchsorted(edges, random_unit(block[:, 0]) * edges[-1], side="right"), len(mass) - 1)
        order[start : start + _BLOCK] = members[starts[group] + random_below(block[:, 1], sizes[group])]
    return order


def rank_slice(batch: Ints, rank: int, world: int) -> Ints:
    """Return the contiguous slice of a global batch that `rank` of `world` reads; `world` divides the batch."""
    local = len(batch) // world
    return batch[rank * local : (rank + 1) * local]


def eval_slices(samples: int, batch_size: int, rank: int, world: int) -> list[Ints]:
    """Return the positions that `rank` evaluates, by batch; over all ranks, every sample appears exactly once.

    Each global batch is divided as evenly as possible. A rank that gets nothing of the last batch has one batch less.
    """
    out = []
    for start in range(0, samples, batch_size):
        stop = min(start + batch_size, samples)
        low, high = (start + (stop - start) * r // world for r in (rank, rank + 1))
        if high > low:
            out.append(np.arange(low, high, dtype=np.int64))
    return out


def shares(order: Ints, part: NDArray[np.integer[Any]], parts: int) -> list[float]:
    """Return the realised share of each part of a mixture in an epoch's `order`.

    `part` (samples,) is the part of each position.
    """
    counts = np.bincount(part[order.ravel()], minlength=parts)
    return [float(c) / order.size for c in counts]
