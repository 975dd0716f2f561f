"""From what a loader reads to what a task gets: on the device, normalized, and in training changed at random."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medvq.config.data import Augment
from medvq.models.draws import Draws
from medvq.shards.dataset.manifest import INSIDE
from medvq.shards.load.loader import Loader
from medvq.shards.load.loader import RawBatch as Read
from medvq.shards.load.view import View
from medvq.shards.sampling.order import epoch_order
from medvq.train.augment import CORNER, KEEP, augment, masked, masked_as_published
from medvq.train.pixels import Pixels
from medvq.train.tasks.base import Batch


@dataclass(frozen=True, kw_only=True)
class BatchBuilder:
    """Makes batches for a task."""

    settings: Augment
    """What changes at random in training."""
    as_published: Collection[str]
    """Mistakes of the paper that are switched on."""
    pixels: Pixels
    device: torch.device

    def training(self, read: Read, draws: Draws) -> Batch:
        """A batch as training sees it: changed at random, with a masked twin where there are masks."""
        batch, settings, pixels = self._on_device(read), self.settings, self.pixels
        fill = pixels.black(batch.part) if settings.fill == "black" else None
        keep = None if read.mask is None else read.mask.to(self.device, non_blocking=True)
        as_published = keep is not None and "mask_clip_normalized" in self.as_published
        if keep is not None and as_published:
            keep = (keep >= INSIDE).to(keep.dtype) * KEEP  # no value of its own looks like a corner
        corner = CORNER if as_published else KEEP
        x, keep = augment(batch.x, keep, settings, draws, fill, _turned(read.view)[read.part], corner)
        if keep is None:
            return replace(batch, x=x)
        if as_published:
            return replace(batch, x=x, masked=masked_as_published(x, keep, draws, *pixels.of(batch.part)))
        return replace(batch, x=x, masked=masked(x, keep, draws))

    def measured(self, read: Read) -> Batch:
        """A batch as evaluation sees it, with keys and masks."""
        return replace(self._on_device(read, keys=True), inside=self._inside(read))

    def first(self, view: View) -> Batch:
        """Two images of the training view, the same on every rank."""
        batch = self.gallery(view, 2)
        masked = batch.x if view.masks else None
        return replace(batch, label=batch.label.clamp_min(0), masked=masked)

    def gallery(self, view: View, count: int = 8) -> Batch:
        """Images of a view for a picture, the classes in turns."""
        wanted = in_turns(view.labels(), count)
        found: dict[int, Batch] = {}
        for read in Loader(view, 64, seed=0).evaluate():
            for i, position in enumerate(read.positions.tolist()):
                if position in wanted:
                    batch = self._on_device(read, keys=True)
                    one = slice(i, i + 1)
                    found[position] = Batch(
                        keys=[batch.keys[i]], x=batch.x[one], label=batch.label[one], part=batch.part[one]
                    )
            if len(found) == len(wanted):
                break
        parts = [found[p] for p in wanted]
        return Batch(
            keys=[k for p in parts for k in p.keys],
            x=torch.cat([p.x for p in parts]),
            label=torch.cat([p.label for p in parts]),
            part=torch.cat([p.part for p in parts]),
        )

    def _on_device(self, read: Read, keys: bool = False) -> Batch:
        image, label, part = (t.to(self.device, non_blocking=True) for t in (read.image, read.label, read.part))
        x = self.pixels.normalize(image, part)
        return Batch(keys=read.keys if keys else (), x=x, label=label, part=part)

    def _inside(self, read: Read) -> Tensor | None:
        """(B, 1, H, W) bool: the pixels of held-out images inside their masks."""
        if read.mask is None:
            return None
        inside = read.mask.to(self.device, non_blocking=True) >= INSIDE
        # Where there is no mask all is kept, which says nothing of where the foreground is.
        return inside & ~inside.flatten(1).all(1).view(-1, 1, 1, 1)


def _turned(view: View) -> Tensor:
    """(P,) for each dataset of a mixture whether the loader turns its images; on the CPU, as angles are."""
    return torch.tensor([part.turn > 0 for part in view.parts])


def in_turns(labels: NDArray[Any], count: int) -> list[int]:
    """Positions of `count` samples of (N,) labels: the first of every class, then the second of every class."""
    labels = np.asarray(labels)
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        turn[here] = np.arange(len(here))
    order: list[int] = np.lexsort((labels, turn))[:count].tolist()
    return order


def bad_keys(loader: Loader, step: int) -> list[str]:
    """Keys of the samples in the global batch of a (global) step, for a message about it."""
    epoch, batch = divmod(step, loader.steps_per_epoch)
    order = epoch_order(loader.view.order_facts(), loader.seed, epoch, loader.batch_size)
    return loader.view.keys(np.asarray(order[batch]))
