"""Everything that a run has in hand while it trains: data, model, optimizer, position, and what is written down."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from medvq.config.study import Train
from medvq.config.task_info import TaskInfo, find_task
from medvq.config.units import seconds
from medvq.errors import UsageError
from medvq.keys import draw_key
from medvq.models.draws import Draws
from medvq.runs import events
from medvq.runs.folder import RunFolder
from medvq.runs.owner import Ownership
from medvq.runs.spec import RunSpec
from medvq.shards.load.loader import Loader
from medvq.train import checkpoint
from medvq.train.batch_builder import BatchBuilder
from medvq.train.ddp import settle_buckets, used_parameters
from medvq.train.evaluate import evaluate, joined
from medvq.train.loss_sync import LossSync
from medvq.train.performance import ahead, eager
from medvq.train.progress import Progress
from medvq.train.scalars import Scalars
from medvq.train.tasks.base import Batch, Evaluated, Task
from medvq.train.world import World

log = logging.getLogger(__name__)


@dataclass
class Session:
    """One attempt at one run, on one rank."""

    spec: RunSpec
    folder: RunFolder
    owner: Ownership
    world: World
    task: Task
    optimizer: torch.optim.Optimizer
    loaders: dict[str, Loader]
    """Readers of the splits: train, and those that are measured."""
    position: checkpoint.Position
    stop_requested: Callable[[], bool]
    """Whether this process was asked to stop."""
    loss_sync: LossSync = field(init=False)
    new_stage: bool = field(init=False, default=True)
    """Whether other parameters are used since the last step that this process took."""
    _begun: int = field(init=False, default=0)
    _saved: float = field(init=False, default_factory=time.monotonic)
    _stage: int | None = field(init=False, default=None)
    _module: torch.nn.Module | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.loss_sync, self._begun = LossSync(self.world), self.position.step
        if self.position.meter:
            self.loss_sync.load(self.position.meter)
        if self.settings.accumulate > 1 and any(isinstance(m, _BatchNorm) for m in self.task.modules()):
            raise UsageError(
                "train.accumulate cannot be had with BatchNorm, whose statistics are those of the whole batch",
                hint="take more workers instead, or a smaller batch_size",
            )

    @property
    def settings(self) -> Train:
        """How the run trains."""
        return self.spec.config.train

    @cached_property
    def info(self) -> TaskInfo:
        """What is declared of the task."""
        return find_task(self.spec.config.task)

    @cached_property
    def batch_builder(self) -> BatchBuilder:
        """What makes batches for the task of what is read."""
        config = self.spec.config
        return BatchBuilder(
            settings=config.data.augment,
            as_published=config.as_published,
            pixels=self.task.pixels,
            device=self.world.device,
        )

    @property
    def watches_test(self) -> bool:
        """Whether test is measured after every epoch; it chooses nothing."""
        return self.settings.watch_test or "best_on_test" in self.spec.config.as_published

    @cached_property
    def progress(self) -> Progress:
        """Where a person can watch."""
        return Progress(
            self.folder.progress,
            epochs=self.settings.epochs,
            steps_per_epoch=self.loaders["train"].steps_per_epoch,
            batch_size=self.settings.batch_size,
            done=self.position.step,
        )

    @cached_property
    def scalars(self) -> Scalars:
        """TensorBoard's curves (rank 0)."""
        steps = self.loaders["train"].steps_per_epoch
        return Scalars(self.folder.tensorboard, step=self._begun, steps_per_epoch=steps)

    def enter(self, epoch: int) -> torch.nn.Module:
        """Ready for an epoch: the module over exactly the parameters that it uses."""
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
                # Statistics of codebooks are summed by the codebooks; copying rank 0's buffers would throw them away.
                with warnings.catch_warnings():
                    # Its new name, forward_sync_buffers, is not known to all versions of torch that will do.
                    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
                    self._module = DistributedDataParallel(
                        self.task, broadcast_buffers=False, gradient_as_bucket_view=True
                    )
                with eager(self.spec.config.resources):
                    settle_buckets(self._module, self.task, first, epoch)
        return self._module

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Batch, Draws]]:
        """The rank's training batches of an epoch, augmented, with the draws of their steps."""
        for read in ahead(self.loaders["train"].epoch(epoch, start), self.world.device):
            draws = Draws(self.settings.seed, self.position.step, self.world.rank, self.world.size)
            yield self.batch_builder.training(read, draws), draws

    def seed_own(self, draws: Draws) -> None:
        """What a user's own code draws from torch's generator depends on the step, not on where the run was stopped."""
        if self.spec.code:
            torch.manual_seed(draw_key(draws.seed, draws.step, f"own code, rank {draws.rank}"))

    def evaluate(self, split: str) -> Evaluated:
        """Measure a split, each of its images once over all ranks; masked copies are for training only."""
        return self._measure(self._once if split == "train" else self.loaders[split])

    @cached_property
    def _once(self) -> Loader:
        """The training images without masked copies."""
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
        """Some splits measured; one such as `val+test` is put together from splits that come before it."""
        found: dict[str, Evaluated] = {}
        for split in splits:
            parts = split.split("+")
            found[split] = joined([found[p] for p in parts]) if len(parts) > 1 else self.evaluate(split)
        return found

    def metrics(self, found: Mapping[str, Evaluated]) -> dict[str, float]:
        """The task's metrics of measured splits, named `split/metric`."""
        return {f"{s}/{name}": value for s, e in found.items() for name, value in self.task.metrics(e).items()}

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Lower precision where the study asks for it; quantizers and losses stay float32."""
        if self.settings.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16)

    def after_step(self) -> None:
        """After a step: show progress, and write a checkpoint if one is due."""
        if self.world.is_main:
            self.progress.show(self.position.step, self.loss_sync.latest)
            self._draw()
            if time.monotonic() - self._saved >= seconds(self.spec.config.resources.checkpoint_every):
                self.save()

    def end_epoch(self, epoch: int) -> None:
        """Evaluate, write the epoch down, keep the best weights, and write a checkpoint if one is nearly due."""
        means = {f"train/{name}": value for name, value in self.loss_sync.end_epoch().items()}
        source = self.spec.source
        splits = [s for s in source.measured if s != "train"] if self.watches_test else source.held_out[:1]
        metrics = {**means, **self.metrics(self.evaluate_splits(splits))}
        self.position.epoch, self.position.batch = epoch + 1, 0
        best = self._is_best(metrics)
        if best:
            self.position.best = {"epoch": epoch + 1, "value": metrics[self.info.select]}
        if not self.world.is_main:
            return
        self.progress.show(self.position.step, means.get("train/loss", float("nan")))
        events.append(
            self.folder.events, self.owner, "epoch", epoch=epoch + 1, step=self.position.step, metrics=metrics
        )
        self.scalars.add(self.position.step, metrics)
        log.info("epoch %d: %s", epoch + 1, "  ".join(f"{k} {v:.5g}" for k, v in metrics.items()))
        if best:
            self.position.meter = {}
            checkpoint.save_best(self.folder.checkpoints, self.owner, self.position, self.task.model, self.metadata())
        due = seconds(self.spec.config.resources.checkpoint_every) / 10
        if time.monotonic() - self._saved >= due or self.position.epoch == self.settings.epochs:
            self.save()

    def fit(self) -> None:
        """Let a task that learns in one go do it; after a resume again, for what it learns is in no checkpoint."""
        self.task.fit(self._measure(self.loaders["train"]), self.evaluate("val"))
        if self.position.epoch < self.settings.epochs:
            self.end_epoch(self.settings.epochs - 1)

    def stop(self) -> None:
        """All ranks have agreed to stop: leave a checkpoint behind, and no exchange under way."""
        self.loss_sync.flush()
        if self.world.is_main:
            self._draw()
            self.save()
            events.append(self.folder.events, self.owner, "stopped", step=self.position.step, reason="asked to stop")

    def save(self) -> None:
        """Write a checkpoint at the present position (rank 0)."""
        self.position.meter = self.loss_sync.state()
        if self.loss_sync.failing:
            return  # weights that the next step would stop over are not to go on from
        self.scalars.flush()
        name = checkpoint.save(
            self.folder.checkpoints, self.owner, self.position, self.task.model, self.optimizer, self.metadata()
        )
        events.append(self.folder.events, self.owner, "checkpoint", step=self.position.step, name=name)
        self._saved = time.monotonic()

    def close(self) -> None:
        """End what runs beside."""
        for loader in self.loaders.values():
            loader.close()
        if self.world.is_main:
            self.scalars.close()

    def class_counts(self) -> dict[str, int]:
        """Training images of each class; empty without labels."""
        label = self.loaders["train"].view.labels()
        return {name: int((label == i).sum()) for i, name in enumerate(self.task.classes)}

    def shares(self) -> dict[str, float]:
        """The share of each dataset of a mixture in all that was drawn."""
        epochs = [self.loaders["train"].shares(epoch) for epoch in range(self.settings.epochs)]
        return {name: fmean(e[name] for e in epochs) for name in epochs[0]}

    def metadata(self) -> dict[str, Any]:
        """What a reader of the weights needs beside them."""
        return {
            "model": self.spec.model,
            "classes": list(self.task.classes),
            "input_shape": [self.loaders["train"].view.channels, *self.loaders["train"].view.size],
            "pixels": self.task.pixels.metadata(),
        }

    def _draw(self) -> None:
        self.scalars.step(self.position.step, self.loss_sync.latest, self.optimizer.param_groups[0]["lr"])

    def _is_best(self, metrics: dict[str, float]) -> bool:
        if self.info.select not in metrics:
            return False  # every image is trained on, so nothing can choose
        value, best = metrics[self.info.select], self.position.best
        sign = 1 if self.info.metrics[self.info.select] == "max" else -1
        return best is None or sign * value > sign * best["value"]
