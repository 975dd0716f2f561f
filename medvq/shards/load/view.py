"""A view: the samples that a job reads of one or more datasets, and how their pixels are made to fit.

A view numbers its samples 0..n-1 ("positions"). The numbering follows the content (the sha256 of the source bytes),
not names or shards, so that two datasets of one digest give the same positions whatever their keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medvq.errors import DataError, UsageError, suggest
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.dataset.manifest import INSIDE
from medvq.shards.sampling.order import OrderFacts, sorting_of
from medvq.shards.sampling.subset import ranks, take

TRAIN = "train"
EVERY_SPLIT = ("all",)
COPY_SUFFIX = "#masked"
Fit = Literal["resize", "crop"]


@dataclass(frozen=True, kw_only=True)
class ViewPart:
    """One dataset of a view."""

    dataset: Dataset
    weight: float = 1.0
    """How often an image of this part is drawn, relative to one of weight 1."""
    fit: Fit = "resize"
    """How an image is made the view's size: resized, or a window cut out (anywhere in training, the centre else)."""
    turn: float = 0.0
    """Degrees by which an image is turned, either way, before a window is cut out in training: the window then has
    corners of its own, and not the ones that turning it afterwards would leave empty."""
    corner: tuple[int, ...] = ()
    """What lies outside a turned image: a value 0..255 for every channel of the view."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Where each of a view's n samples is."""

    part: NDArray[np.int16]
    """(n,) which part."""
    row: NDArray[np.int32]
    """(n,) row in the part's index."""
    copies: int = 0
    """The last so many samples are masked copies."""

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, kw_only=True)
class View:
    """What a job reads of its datasets."""

    parts: tuple[ViewPart, ...]
    splits: tuple[str, ...] = (TRAIN,)
    """Splits to read; `("all",)` reads every split."""
    subset: float = 100.0
    """Percent of every class of the train split; the other splits are always whole."""
    draw: int = 0
    """Which ranking the subset is taken from."""
    balance: Literal["none", "class"] = "none"
    """`class` draws with replacement, every class as often."""
    limit: int | None = None
    """At most so many samples, in the proportions of the classes."""
    draws: int | None = None
    """Samples an epoch, drawn with replacement by weight; None: each once (or that many, where weights differ)."""
    size: tuple[int, int]
    """(H, W) in pixels."""
    channels: Literal[1, 3] = 3
    masks: bool = False
    """Load masks along; a sample without one gets 255 everywhere (keep all)."""
    mask_copies: bool = False
    """Add a copy, black outside the mask, of every image whose mask is not empty."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise UsageError("a view needs at least one dataset")
        if not 0 < self.subset <= 100:
            raise UsageError(f"subset is a percentage in (0, 100], not {self.subset}")
        for name, value in (("limit", self.limit), ("draws", self.draws), *(("size", s) for s in self.size)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        for part in self.parts:
            if not 0 < part.weight < float("inf"):
                raise UsageError(f"the weight of {part.dataset.name} must be positive, not {part.weight}")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order: those of the parts, in order of appearance."""
        return tuple(dict.fromkeys(c for part in self.parts for c in part.dataset.classes))

    @cached_property
    def samples(self) -> Samples:
        """Part and row of every position.

        Raises:
            UsageError: a split is not there, or nothing is left.
        """
        rows = [self._rows_of(part) for part in self.parts]
        part = np.repeat(np.arange(len(rows), dtype=np.int16), [len(r) for r in rows])
        row = np.concatenate(rows)
        if self.limit is not None and self.limit < len(row):
            keep = _spread(self._labels_at(part, row), self.limit)
            part, row = part[keep], row[keep]
        copies = self._with_mask(part, row) if self.mask_copies else np.empty(0, np.int64)
        if len(row) == 0:
            raise UsageError(f"no sample is left of {', '.join(p.dataset.name for p in self.parts)}")
        if len(copies):
            part, row = np.concatenate([part, part[copies]]), np.concatenate([row, row[copies]])
        return Samples(part=part, row=row, copies=len(copies))

    def rows(self) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
        """(n,) part and (n,) row in that part's index, of every position; masked copies come last."""
        return self.samples.part, self.samples.row

    def labels(self) -> NDArray[np.int16]:
        """(n,) places in `classes`, -1 where there is none."""
        return self._labels

    @cached_property
    def _labels(self) -> NDArray[np.int16]:
        return self._labels_at(*self.rows())

    def has_mask(self) -> NDArray[np.bool_]:
        """(n,) whether the sample has a mask of its own."""
        return self._gather("has_mask", np.dtype(np.bool_))

    def keys(self, positions: NDArray[np.integer[Any]] | None = None) -> list[str]:
        """Unique keys: of several datasets they start with the dataset's name, those of copies end in #masked."""
        at = np.arange(len(self)) if positions is None else np.asarray(positions)
        out = [""] * len(at)
        part, row = self.rows()
        plain = len(self) - self.samples.copies
        names = [p.dataset.name for p in self.parts]
        for i, p in enumerate(self.parts):
            here = np.flatnonzero(part[at] == i)
            # Two parts of one name are told apart by their place.
            lead = f"{names[i]}/" if names.count(names[i]) == 1 else f"{i}:{names[i]}/"
            lead = lead if len(names) > 1 else ""
            for k, key in zip(here, p.dataset.keys(row[at[here]]), strict=True):
                out[k] = lead + key + (COPY_SUFFIX if at[k] >= plain else "")
        return out

    def key(self) -> dict[str, Any]:
        """The canonical description of all that the order depends on; what is at its neutral value is left out."""
        return {
            "parts": [{"digest": p.dataset.digest, "weight": p.weight} for p in self.parts],
            "splits": sorted(self.splits),
            **({"subset": self.subset, "draw": self.draw} if self.subset < 100 else {}),
            **({"balance": self.balance} if self.balance != "none" else {}),
            **({"limit": self.limit} if self.limit is not None else {}),
            **({"draws": self.draws} if self.draws is not None else {}),
            **({"mask_copies": True} if self.mask_copies else {}),
        }

    def order_facts(self) -> OrderFacts:
        """What `order.epoch_order` needs.

        Raises:
            UsageError: balance by class over samples without a label.
        """
        n = len(self)
        weights = [p.weight for p in self.parts]
        if self.balance == "none" and self.draws is None and len(set(weights)) == 1:
            return OrderFacts(key=self.key(), samples=n)
        part = self.samples.part
        label = self.labels() if self.balance == "class" else np.zeros(n, np.int16)
        if label.min() < 0:
            raise UsageError("balance: class needs a label on every sample", hint="use balance: none")
        # A group is the samples of one part and one class; its mass is its number of samples times their weight,
        # scaled so that every class has the same mass.
        stride = int(label.max()) + 1
        code = part.astype(np.int32) * stride + label
        counts = np.bincount(code)
        present = np.flatnonzero(counts)
        mass = counts[present] * np.asarray(weights)[present // stride]
        if self.balance == "class":
            mass = mass / np.bincount(present % stride, weights=mass)[present % stride]
        places = np.zeros(len(counts), np.min_scalar_type(len(present)))
        places[present] = np.arange(len(present))
        return OrderFacts(
            key=self.key(), samples=n, groups=places[code], mass=tuple(mass.tolist()), draws=self.draws or n
        )

    def _rows_of(self, part: ViewPart) -> NDArray[np.int32]:
        """Rows of a part that are in the view, in content order."""
        data = part.dataset
        everything = self.splits == EVERY_SPLIT
        for split in () if everything else self.splits:
            if split not in data.splits:
                raise UsageError(f"{data.name} has no split {split!r}", hint=suggest(split, data.splits))
        content = data.columns.leading_bits("sha256")
        keep = None
        if not everything and set(self.splits) != set(data.splits):
            keep = np.isin(data.column("split"), [data.splits.index(s) for s in self.splits])
        if self.subset < 100 and TRAIN in data.splits:
            inside = _in_subset(data, self.subset, self.draw)
            keep = inside if keep is None else keep & inside
        if keep is None:
            return sorting_of(content).astype(np.int32)
        rows = np.flatnonzero(keep).astype(np.int32)
        return rows[sorting_of(content[keep])]

    def _labels_at(self, part: NDArray[np.int16], row: NDArray[np.int32]) -> NDArray[np.int16]:
        out = np.full(len(row), -1, np.int16)
        for i, p in enumerate(self.parts):
            here = part == i
            places = np.asarray([*(self.classes.index(c) for c in p.dataset.classes), -1], np.int16)
            out[here] = places[p.dataset.column("label")[row[here]]]
        return out

    def _gather(self, column: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        part, row = self.rows()
        out = np.empty(len(row), dtype)
        for i, p in enumerate(self.parts):
            out[part == i] = p.dataset.column(column)[row[part == i]]
        return out

    def _with_mask(self, part: NDArray[np.int16], row: NDArray[np.int32]) -> NDArray[np.int64]:
        """Places of the samples whose mask keeps something; each distinct mask is decoded once."""
        from medvq.shards.load.decode import decode_mask

        out: list[int] = []
        for i, p in enumerate(self.parts):
            here = np.flatnonzero((part == i) & p.dataset.column("has_mask")[np.where(part == i, row, 0)])
            sums = p.dataset.columns.texts("mask_sha256", row[here])
            keeps: dict[str, bool] = {}
            for at, name in zip(here.tolist(), sums, strict=True):
                if name not in keeps:
                    keeps[name] = bool((decode_mask(p.dataset.read(int(row[at]), "mask")) >= INSIDE).any())
                if keeps[name]:
                    out.append(at)
        return np.asarray(out, np.int64)


def _in_subset(data: Dataset, percent: float, draw: int) -> NDArray[np.bool_]:
    """(samples,) False for the train samples that are not in the subset of `percent` %."""
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
    """(train samples,) rank of each in its class for another `draw` than the one in the index."""
    return ranks(data.columns.texts("sha256", np.flatnonzero(train)), label, data.column("has_mask")[train], draw)


def _spread(labels: NDArray[np.int16], limit: int) -> NDArray[np.int64]:
    """The places of `limit` samples, in the proportions of the classes, the first of each class before any second."""
    order = np.argsort(labels, kind="stable")
    _, start, count = np.unique(labels[order], return_index=True, return_counts=True)
    within = np.arange(len(labels)) - np.repeat(start, count)
    share = np.empty(len(labels))
    share[order] = within / np.repeat(count, count)
    return np.sort(np.argsort(share, kind="stable")[:limit])
