"""What a run needs to train: data, model, optimizer, position, and evaluation."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from medvq.config.extensions import with_metrics
from medvq.config.study import Train
from medvq.config.task_info import TaskInfo, find_task
from medvq.errors import UsageError
from medvq.keys import draw_key
from medvq.metrics.metric import Metric, evaluate_metrics
from medvq.models.draws import Draws
from medvq.models.norm import BatchNorm
from medvq.registry import import_object
from medvq.runs.spec import RunSpec
from medvq.shards.load.loader import Loader
from medvq.train.batch_builder import BatchBuilder
from medvq.train.checkpoint import Position
from medvq.train.ddp import settle_buckets, used_parameters
from medvq.train.evaluate import evaluate, joined
from medvq.train.loss_sync import LossSync
from medvq.train.performance import ahead, eager
from medvq.train.tasks.base import Batch, Evaluated, Task
from medvq.train.world import World


@dataclass
class Session:
    """One attempt at one run, on one rank. It computes and writes nothing; see `medvq.train.recorder`."""

    spec: RunSpec
    world: World
    task: Task
    optimizer: torch.optim.Optimizer
    loaders: dict[str, Loader]
    """Loaders of the training split and of the splits that are measured."""
    position: Position
    stop_requested: Callable[[], bool]
    """Returns whether this process was asked to stop."""
    loss_sync: LossSync = field(init=False)
    new_stage: bool = field(init=False, default=True)
    """Whether other parameters are used since the last step that this process took."""
    _stage: int | None = field(init=False, default=None)
    _module: torch.nn.Module | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.loss_sync = LossSync(self.world)
        if self.position.meter:
            self.loss_sync.load(self.position.meter)
        if self.settings.accumulate > 1 and any(isinstance(m, BatchNorm) for m in self.task.modules()):
            raise UsageError(
                "train.accumulate cannot be used with BatchNorm, whose statistics are those of the whole batch",
                hint="use more workers instead, or a smaller batch_size",
            )

    @property
    def settings(self) -> Train:
        """The job's `train` section."""
        return self.spec.config.train

    @cached_property
    def info(self) -> TaskInfo:
        """The declaration of the task, with the metrics that the job adds."""
        return with_metrics(find_task(self.spec.config.task), self.spec.config.metrics)

    @cached_property
    def own_metrics(self) -> dict[str, Metric]:
        """Metrics that the job adds to those of the task, by import path."""
        return {path: import_object(path, "metric") for path in self.spec.config.metrics}

    @cached_property
    def batch_builder(self) -> BatchBuilder:
        """Makes the task's batches from what loaders read."""
        config = self.spec.config
        return BatchBuilder(
            settings=config.data.augment,
            as_published=config.as_published,
            pixels=self.task.pixels,
            device=self.world.device,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.loaders["train"].steps_per_epoch

    @property
    def finished(self) -> bool:
        """Whether all epochs are trained."""
        return self.position.epoch >= self.settings.epochs

    @property
    def watches_test(self) -> bool:
        """Whether test is measured after every epoch. It chooses nothing."""
        return self.settings.watch_test or "best_on_test" in self.spec.config.as_published

    def enter(self, epoch: int) -> torch.nn.Module:
        """Prepare an epoch (from 0); return the module over exactly the parameters that it uses."""
        self.task.train()
        stage = self.task.stage(epoch)
        if self._module is None or stage != self._stage:
            with eager(self.spec.config.resources):
                first = self.batch_builder.first(self.loaders["train"].view)
                used = used_parameters(self.task, first, epoch)
            for name, parameter in self.task.model.named_parameters():
                parameter.requires_grad_(name in used)
            self._stage, self._module, self.new_stage = stage, self.task, True
            if self.world.size > 1:
                self._module = self._distributed()
                with eager(self.spec.config.resources):
                    settle_buckets(self._module, self.task, first, epoch)
        return self._module

    def _distributed(self) -> DistributedDataParallel:
        # Codebooks sum their statistics over ranks themselves. Copying rank 0's buffers would lose the other ranks'.
        with warnings.catch_warnings():
            # The new name of the argument, forward_sync_buffers, is unknown to some supported versions of torch.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return DistributedDataParallel(self.task, broadcast_buffers=False, gradient_as_bucket_view=True)

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Batch, Draws]]:
        """Yield this rank's augmented training batches of an epoch from step `start` on, with the draws of each."""
        for read in ahead(self.loaders["train"].epoch(epoch, start), self.world.device):
            draws = Draws(self.settings.seed, self.position.step, self.world.rank, self.world.size)
            yield self.batch_builder.training(read, draws), draws

    def seed_own(self, draws: Draws) -> None:
        """Seed torch's generator by the step, so that a user's own code draws the same after a restart."""
        if self.spec.trained_code:
            torch.manual_seed(draw_key(draws.seed, draws.step, f"own code, rank {draws.rank}"))

    def fit(self) -> None:
        """Let a task learn in one go. This is repeated after a restart: no checkpoint has what was learnt."""
        self.task.fit(self._measure(self.loaders["train"]), self.evaluate("val"))

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """Evaluate, and move the position behind `epoch` (from 0); return the epoch's metrics by full name.

        These are the means of the training losses and the metrics of validation, and of the other held-out splits if
        the run watches test.
        """
        means = {f"train/{name}": value for name, value in self.loss_sync.end_epoch().items()}
        source = self.spec.source
        splits = [s for s in source.measured if s != "train"] if self.watches_test else source.held_out[:1]
        metrics = {**means, **self.metrics(self.evaluate_splits(splits))}
        self.position.epoch, self.position.batch = epoch + 1, 0
        return metrics

    def evaluate(self, split: str) -> Evaluated:
        """Measure each image of a split once, over all ranks, without masked copies."""
        return self._measure(self._train_once if split == "train" else self.loaders[split])

    @cached_property
    def _train_once(self) -> Loader:
        """Loader of the training images without masked copies, which are for training only."""
        train = self.loaders["train"]
        if not train.view.mask_copies:
            return train
        view = replace(train.view, mask_copies=False)
        return Loader(view, train.batch_size, train.seed, self.world.rank, self.world.size)

    def _measure(self, loader: Loader) -> Evaluated:
        batches = ((read.positions.numpy(), self.batch_builder.measured(read)) for read in loader.evaluate())
        with self.autocast(), eager(self.spec.config.resources):
            return evaluate(self.task, batches, self.world)

    def evaluate_splits(self, splits: Iterable[str]) -> dict[str, Evaluated]:
        """Measure several splits. One such as `val+test` is joined from splits that come before it."""
        found: dict[str, Evaluated] = {}
        for split in splits:
            parts = split.split("+")
            found[split] = joined([found[p] for p in parts]) if len(parts) > 1 else self.evaluate(split)
        return found

    def metrics(self, found: Mapping[str, Evaluated]) -> dict[str, float]:
        """Return the metrics of measured splits, named `split/metric`.

        Raises:
            MetricError: a metric that the job adds failed.
        """
        out: dict[str, float] = {}
        for split, measured in found.items():
            values = self.task.metrics(measured)
            if self.own_metrics:
                columns = self.columns(measured)
                values = {**values, **evaluate_metrics(self.own_metrics, columns, measured.classes, split)}
            out |= {f"{split}/{name}": value for name, value in values.items()}
        return out

    def columns(self, measured: Evaluated) -> dict[str, Any]:
        """Return what is kept of every image of a split: the columns of its `predictions.parquet`, (N,) each."""
        return {"key": measured.keys, **self.task.prediction_columns(measured)}

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context of the job's precision. Quantizers and losses stay float32."""
        if self.settings.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16)

    def class_counts(self) -> dict[str, int]:
        """Return the number of training images of each class; empty without labels."""
        label = self.loaders["train"].view.labels()
        return {name: int((label == i).sum()) for i, name in enumerate(self.task.classes)}

    def shares(self) -> dict[str, float]:
        """Return the share of each dataset of a mixture in all training images that were drawn."""
        epochs = [self.loaders["train"].shares(epoch) for epoch in range(self.settings.epochs)]
        return {name: fmean(e[name] for e in epochs) for name in epochs[0]}

    def close(self) -> None:
        """End the loaders' processes."""
        for loader in self.loaders.values():
            loader.close()
