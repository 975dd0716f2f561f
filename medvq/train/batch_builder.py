"""Turn what a loader reads into what a task gets: on the device, normalized and, in training, changed at random."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medvq.config.augment import Augment
from medvq.models.draws import Draws
from medvq.shards.dataset.manifest import INSIDE
from medvq.shards.load.loader import Loader, RawBatch
from medvq.shards.load.view import View
from medvq.shards.sampling.order import epoch_order
from medvq.train.augmentation.geometric import CORNER, KEEP, augment, masked, masked_as_published
from medvq.train.augmentation.photometric import add_noise, blur, recolour
from medvq.train.pixels import Pixels
from medvq.train.tasks.base import Batch


@dataclass(frozen=True, kw_only=True)
class BatchBuilder:
    """Makes batches for a task."""

    settings: Augment
    """What changes at random in training."""
    as_published: Collection[str]
    """Names of the published mistakes that are switched on."""
    pixels: Pixels
    device: torch.device

    def training(self, read: RawBatch, draws: Draws) -> Batch:
        """Return a batch as training sees it: changed at random, and with masked copies if there are masks."""
        settings, pixels = self.settings, self.pixels
        batch = self._on_device(read, draws=draws if settings.changes_colour else None)
        fill = pixels.black(batch.part) if settings.fill == "black" else None
        keep = None if read.mask is None else read.mask.to(self.device, non_blocking=True)
        as_published = keep is not None and "mask_clip_normalized" in self.as_published
        if keep is not None and as_published:
            keep = (keep >= INSIDE).to(keep.dtype) * KEEP  # only 0 and 255, so that no value equals CORNER
        corner = CORNER if as_published else KEEP
        x, keep = augment(batch.x, keep, settings, draws, fill, _turned(read.view)[read.part], corner)
        if settings.degrades:
            x = self._degraded(x, batch.part, draws)
        if keep is None:
            return replace(batch, x=x)
        if as_published:
            return replace(batch, x=x, masked=masked_as_published(x, keep, draws, *pixels.of(batch.part)))
        return replace(batch, x=x, masked=masked(x, keep, draws))

    def measured(self, read: RawBatch) -> Batch:
        """Return a batch as evaluation sees it: unchanged, with keys and masks."""
        return replace(self._on_device(read, keys=True), inside=self._inside(read))

    def first(self, view: View) -> Batch:
        """Return two images of the training view, the same on every rank."""
        batch = self.gallery(view, 2)
        masked = batch.x if view.masks else None
        return replace(batch, label=batch.label.clamp_min(0), masked=masked)

    def gallery(self, view: View, count: int = 8) -> Batch:
        """Return `count` images of a view for a picture, taken from the classes in turn."""
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

    def _on_device(self, read: RawBatch, keys: bool = False, draws: Draws | None = None) -> Batch:
        """Return the batch on the device, normalized; with `draws`, after a random change of colour."""
        image, label, part = (t.to(self.device, non_blocking=True) for t in (read.image, read.label, read.part))
        if draws is None:
            x = self.pixels.normalize(image, part)
        else:
            x = self.pixels.scale(recolour(image.float() / 255, self.settings, draws), part)
        return Batch(keys=read.keys if keys else (), x=x, label=label, part=part)

    def _degraded(self, x: Tensor, part: Tensor, draws: Draws) -> Tensor:
        """Return normalized x (B, C, H, W) with blur and noise, which are applied to pixels in [0, 1]."""
        u = self.pixels.unit(x, part)
        if self.settings.blur:
            u = blur(u, self.settings.blur, draws)
        if self.settings.noise:
            u = add_noise(u, self.settings.noise, draws)
        return self.pixels.scale(u, part)

    def _inside(self, read: RawBatch) -> Tensor | None:
        """Return (B, 1, H, W) bool: the pixels of held-out images inside their masks."""
        if read.mask is None:
            return None
        inside = read.mask.to(self.device, non_blocking=True) >= INSIDE
        # An image without a mask keeps every pixel. That does not say where its foreground is, so nothing is inside.
        return inside & ~inside.flatten(1).all(1).view(-1, 1, 1, 1)


def _turned(view: View) -> Tensor:
    """Return (P,) bool on the CPU: for each dataset of a mixture whether the loader rotates its images."""
    return torch.tensor([part.turn > 0 for part in view.parts])


def in_turns(labels: NDArray[Any], count: int) -> list[int]:
    """Return the positions of `count` samples with labels (N,): the first of every class, then the second of each."""
    labels = np.asarray(labels)
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        turn[here] = np.arange(len(here))
    order: list[int] = np.lexsort((labels, turn))[:count].tolist()
    return order


def bad_keys(loader: Loader, step: int) -> list[str]:
    """Return the keys of the samples in the global batch of a step (counted over all epochs), for an error message."""
    epoch, batch = divmod(step, loader.steps_per_epoch)
    order = epoch_order(loader.view.order_facts(), loader.seed, epoch, loader.batch_size)
    return loader.view.keys(np.asarray(order[batch]))
