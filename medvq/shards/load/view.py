"""A view: the samples that a job reads of one or more datasets, and how their pixels are made to fit.

A view numbers its samples 0..n-1 ("positions"). The numbering follows the content (the sha256 of the source bytes), not
names or shards: two datasets with the same digest give the same positions whatever their keys are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medvq.errors import UsageError
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.select import EVERY_SPLIT, TRAIN, limited, rows_of, with_kept_pixels
from medvq.shards.sampling.order import OrderFacts

__all__ = ["EVERY_SPLIT", "TRAIN", "Fit", "View", "ViewPart"]

COPY_SUFFIX = "#masked"
Fit = Literal["resize", "crop"]


@dataclass(frozen=True, kw_only=True)
class ViewPart:
    """One dataset of a view."""

    dataset: Dataset
    weight: float = 1.0
    """How often an image of this part is drawn, relative to an image of a part with weight 1."""
    fit: Fit = "resize"
    """How an image gets the view's size: it is resized, or a window is cut out (at random in training, else the
    centre)."""
    turn: float = 0.0
    """Largest angle in degrees by which an image is rotated, either way, before a window is cut out in training. The
    corners of the window then show the image, where a rotation after cutting would leave them empty."""
    corner: tuple[int, ...] = ()
    """Values outside a rotated image, 0..255 for each channel of the view."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Where the n samples of a view are."""

    part: NDArray[np.int16]
    """(n,) index of the part."""
    row: NDArray[np.int32]
    """(n,) row in the part's index."""
    copies: int = 0
    """Number of masked copies; they are the last samples."""

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, kw_only=True)
class View:
    """What a job reads of its datasets."""

    parts: tuple[ViewPart, ...]
    splits: tuple[str, ...] = (TRAIN,)
    """Splits to read; `EVERY_SPLIT` reads all."""
    subset: float = 100.0
    """Percent of each class of the train split; the other splits are always whole."""
    draw: int = 0
    """Which ranking the subset is taken from."""
    balance: Literal["none", "class"] = "none"
    """`class` draws with replacement, every class equally often."""
    limit: int | None = None
    """Largest number of samples, taken in the proportions of the classes."""
    draws: int | None = None
    """Number of samples in an epoch, drawn with replacement by weight. None: each sample once, or as many draws if
    weights differ."""
    size: tuple[int, int]
    """(H, W) in pixels."""
    channels: Literal[1, 3] = 3
    masks: bool = False
    """Whether to load masks; a sample without one gets 255 everywhere (keep all)."""
    mask_copies: bool = False
    """Whether to add a copy, black outside the mask, of each image whose mask is not empty."""

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
            UsageError: a dataset lacks a split, or no sample is left.
        """
        rows = [rows_of(part.dataset, self.splits, self.subset, self.draw) for part in self.parts]
        part = np.repeat(np.arange(len(rows), dtype=np.int16), [len(r) for r in rows])
        row = np.concatenate(rows)
        if self.limit is not None and self.limit < len(row):
            keep = limited(self._labels_at(part, row), self.limit)
            part, row = part[keep], row[keep]
        copies = self._to_copy(part, row) if self.mask_copies else np.empty(0, np.int64)
        if len(row) == 0:
            raise UsageError(f"no sample is left of {', '.join(p.dataset.name for p in self.parts)}")
        if len(copies):
            part, row = np.concatenate([part, part[copies]]), np.concatenate([row, row[copies]])
        return Samples(part=part, row=row, copies=len(copies))

    def rows(self) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
        """Return (n,) part and (n,) row in that part's index, of every position; masked copies come last."""
        return self.samples.part, self.samples.row

    def labels(self) -> NDArray[np.int16]:
        """Return (n,) indices into `classes`, -1 for a sample without a label."""
        return self._labels

    @cached_property
    def _labels(self) -> NDArray[np.int16]:
        return self._labels_at(*self.rows())

    def has_mask(self) -> NDArray[np.bool_]:
        """Return (n,) whether the sample has a mask of its own."""
        return self._gather("has_mask", np.dtype(np.bool_))

    def keys(self, positions: NDArray[np.integer[Any]] | None = None) -> list[str]:
        """Return the unique keys of `positions`; None: of all.

        With several datasets a key starts with the dataset's name. The key of a masked copy ends in `#masked`.
        """
        at = np.arange(len(self)) if positions is None else np.asarray(positions)
        out = [""] * len(at)
        part, row = self.rows()
        plain = len(self) - self.samples.copies
        names = [p.dataset.name for p in self.parts]
        for i, p in enumerate(self.parts):
            here = np.flatnonzero(part[at] == i)
            # Parts with the same name are told apart by their index.
            lead = f"{names[i]}/" if names.count(names[i]) == 1 else f"{i}:{names[i]}/"
            lead = lead if len(names) > 1 else ""
            for k, key in zip(here, p.dataset.keys(row[at[here]]), strict=True):
                out[k] = lead + key + (COPY_SUFFIX if at[k] >= plain else "")
        return out

    def key(self) -> dict[str, Any]:
        """Return the canonical description of all that the order depends on, without fields at their neutral value."""
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
        """Return what `order.epoch_order` needs.

        Raises:
            UsageError: `balance: class` over samples without a label.
        """
        n = len(self)
        weights = [p.weight for p in self.parts]
        if self.balance == "none" and self.draws is None and len(set(weights)) == 1:
            return OrderFacts(key=self.key(), samples=n)
        part = self.samples.part
        label = self.labels() if self.balance == "class" else np.zeros(n, np.int16)
        if label.min() < 0:
            raise UsageError("balance: class needs a label on every sample", hint="use balance: none")
        # A group is the samples of one part and one class. Its mass is its number of samples times their weight, scaled
        # to give every class the same mass.
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

    def _to_copy(self, part: NDArray[np.int16], row: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the positions of samples whose mask keeps a pixel, part by part."""
        here = [np.flatnonzero(part == i) for i in range(len(self.parts))]
        return np.concatenate(
            [at[with_kept_pixels(p.dataset, row[at])] for at, p in zip(here, self.parts, strict=True)]
        )
