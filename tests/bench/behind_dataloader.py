"""Our `Reader` behind `torch.utils.data.DataLoader`, to compare with our own loader processes.

The dataset is map-style with `__getitems__`, and the batch sampler gives the batches of our order: same samples, same
pixels. The workers persist over epochs, and three batches are under way for each, as in our loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader

from medvq.shards.load.buffers import Buffers
from medvq.shards.load.reader import Reader
from medvq.shards.load.view import View
from medvq.shards.sampling.order import epoch_order, steps_per_epoch

Batch = tuple[torch.Tensor, torch.Tensor]
"""(B,) positions and (B, H, W, C) pixels."""


class ReaderDataset(torch.utils.data.Dataset[Batch]):
    def __init__(self, view: View) -> None:
        self.view, self.reader = view, Reader(view)

    def __len__(self) -> int:
        return len(self.view)

    def __getitems__(self, positions: np.ndarray) -> Batch:
        pixels = torch.empty(len(positions), *self.view.size, self.view.channels, dtype=torch.uint8)
        self.reader.read(positions.tolist(), None, Buffers(pixels.numpy(), None))
        return torch.from_numpy(positions), pixels


class EpochSampler:
    """The batches of one epoch; `epoch` is set before each."""

    def __init__(self, view: View, batch_size: int) -> None:
        self.facts, self.batch_size, self.epoch = view.order_facts(), batch_size, 0

    def __len__(self) -> int:
        return steps_per_epoch(len(self.facts), self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(epoch_order(self.facts, 0, self.epoch, self.batch_size))


def reader_behind_dataloader(view: View, batch_size: int, processes: int) -> Callable[[int], int]:
    """A function that runs an epoch and returns the number of images."""
    sampler = EpochSampler(view, batch_size)
    options = {"persistent_workers": True, "prefetch_factor": 3, "worker_init_fn": _one_thread} if processes else {}
    loader = DataLoader(
        ReaderDataset(view), batch_sampler=sampler, num_workers=processes, collate_fn=_as_it_is, **options
    )

    def run(epoch: int) -> int:
        sampler.epoch = epoch
        images = 0
        for positions, pixels in loader:
            _ = torch.from_numpy(view.labels()[positions.numpy()].astype(np.int64)), pixels.permute(0, 3, 1, 2)
            images += len(positions)
        return images

    return run


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
