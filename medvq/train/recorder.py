"""What a run writes while it trains: events, curves, progress and checkpoints."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from medvq.config.units import seconds
from medvq.runs import events
from medvq.runs.folder import RunFolder
from medvq.runs.owner import LostOwnershipError, Ownership
from medvq.train import checkpoint
from medvq.train.listener import AttemptEnd, Ending, EpochEnd, ListenerError, Listeners, StopTraining
from medvq.train.progress import Progress
from medvq.train.scalars import Scalars
from medvq.train.session import Session
from medvq.train.world import World

log = logging.getLogger(__name__)


def leave_together(world: World, lost: LostOwnershipError | None) -> None:
    """Wait for all ranks, and raise LostOwnershipError on every rank if rank 0 gives one."""
    said = world.broadcast(str(lost) if lost else None)
    if lost:
        raise lost
    if said:
        raise LostOwnershipError(said)


class Recorder:
    """Writes into the folder of a run while it trains, and tells the run's listeners.

    Only rank 0 writes and has listeners. Every rank calls the same methods, because `end_epoch` and `stop` also make
    the ranks agree. Rank 0 alone learns that another attempt has taken the run over. It then writes no more, and all
    ranks raise the error together at the next `end_epoch` or `stop`.
    """

    def __init__(self, session: Session, folder: RunFolder, owner: Ownership, listeners: Listeners) -> None:
        """Begin to record an attempt at the session's position.

        Args:
            session: what trains.
            folder: the run's folder.
            owner: the right to write into it.
            listeners: what is told about every epoch; empty on ranks other than 0.
        """
        self.session, self.folder, self.owner, self.listeners = session, folder, owner, listeners
        self._writes = session.world.is_main
        self._first_step = session.position.step
        self._interval = seconds(session.spec.config.resources.checkpoint_every)
        self._saved = time.monotonic()
        self._request: tuple[str, StopTraining] | None = None
        self._lost: LostOwnershipError | None = None

    @cached_property
    def progress(self) -> Progress:
        """progress.json, which shows a person where the run is."""
        session = self.session
        return Progress(
            self.folder.progress,
            epochs=session.settings.epochs,
            steps_per_epoch=session.steps_per_epoch,
            batch_size=session.settings.batch_size,
            done=session.position.step,
        )

    @cached_property
    def scalars(self) -> Scalars:
        """TensorBoard's curves."""
        return Scalars(self.folder.tensorboard, step=self._first_step, steps_per_epoch=self.session.steps_per_epoch)

    def after_step(self) -> None:
        """Show progress, and write a checkpoint if one is due."""
        if not self._writes or self.lost:
            return
        with self._noting_loss():
            self.progress.show(self.session.position.step, self.session.loss_sync.latest)
            self._add_step_scalars()
            if self._seconds_since_checkpoint() >= self._interval:
                self.save_checkpoint()

    @property
    def lost(self) -> bool:
        """Whether this rank knows that another attempt has taken the run over; all ranks must then stop."""
        return self._lost is not None

    def end_epoch(self, metrics: Mapping[str, float]) -> bool:
        """Write an epoch down: metrics, the weights if they are the best so far, and a checkpoint if one is nearly due.

        Listeners are told after the metrics were written and before the checkpoint.

        Args:
            metrics: metrics of the epoch that the session has just finished, by full name.

        Returns:
            Whether a listener asks to stop the run. It is the same on all ranks.

        Raises:
            ListenerError: a listener failed; a checkpoint was written before.
            LostOwnershipError: another attempt has taken the run over. Every rank raises it.
        """
        session = self.session
        request = None
        if self._writes and not self.lost:
            with self._noting_loss():
                request = self._record_epoch(metrics)
        self._leave_together()
        if session.spec.config.resources.listeners:
            request = session.world.broadcast(request)
        self._request = request
        return request is not None

    def stop(self) -> None:
        """Write a checkpoint and why the run stops. All ranks have agreed to stop.

        Raises:
            LostOwnershipError: another attempt has taken the run over. Every rank raises it.
        """
        self.session.loss_sync.flush()
        if self._writes and not self.lost:
            with self._noting_loss():
                self._record_stop()
        self._leave_together()

    def save_checkpoint(self) -> None:
        """Write a checkpoint that training can go on from, unless a loss has become NaN or infinite (rank 0)."""
        session = self.session
        session.position.meter = session.loss_sync.state()
        if session.loss_sync.failing:
            return  # training cannot go on from these weights
        self.scalars.flush()
        name = checkpoint.save(
            self.folder.checkpoints,
            self.owner,
            session.position,
            session.task.model,
            session.optimizer,
            self.metadata(),
        )
        self._append("checkpoint", step=session.position.step, name=name)
        self._saved = time.monotonic()

    def metadata(self) -> dict[str, Any]:
        """Return what a reader of the weights needs to know beside them."""
        session, view = self.session, self.session.loaders["train"].view
        return {
            "model": session.spec.model,
            "classes": list(session.task.classes),
            "input_shape": [view.channels, *view.size],
            "pixels": session.task.pixels.metadata(),
        }

    def close(self) -> None:
        """Write the last points of the curves."""
        if self._writes:
            self.scalars.close()

    def end(self, outcome: Ending) -> None:
        """Tell the listeners that the attempt has ended."""
        spec = self.session.spec
        end = AttemptEnd(run=spec.run, identity=spec.identity, outcome=outcome, folder=self.folder.path)
        self.listeners.on_end(end)

    @contextlib.contextmanager
    def _noting_loss(self) -> Iterator[None]:
        """Keep a LostOwnershipError of the block until all ranks can raise it."""
        try:
            yield
        except LostOwnershipError as e:
            self._lost = e

    def _leave_together(self) -> None:
        """Raise LostOwnershipError on every rank if rank 0 has learnt that the run was taken over."""
        leave_together(self.session.world, self._lost)

    def _record_stop(self) -> None:
        """Write a checkpoint and why the run stops (rank 0)."""
        self._add_step_scalars()
        self.save_checkpoint()
        why = {"reason": "asked to stop"}
        if self._request is not None:
            listener, request = self._request
            why = {"reason": request.reason, "listener": listener}
        self._append("stopped", step=self.session.position.step, **why)

    def _record_epoch(self, metrics: Mapping[str, float]) -> tuple[str, StopTraining] | None:
        """Write an epoch down; return a listener's request to stop (rank 0)."""
        session, position = self.session, self.session.position
        best = self._is_best(metrics)
        if best:
            position.best = {"epoch": position.epoch, "value": metrics[session.info.select]}
        self.progress.show(position.step, metrics.get("train/loss", math.nan))
        self._append("epoch", epoch=position.epoch, step=position.step, metrics=dict(metrics))
        self.scalars.add(position.step, metrics)
        log.info("epoch %d: %s", position.epoch, "  ".join(f"{k} {v:.5g}" for k, v in metrics.items()))
        if best:
            position.meter = {}
            checkpoint.save_best(self.folder.checkpoints, self.owner, position, session.task.model, self.metadata())
        try:
            request = self.listeners.on_epoch(self._epoch_end(metrics))
        except ListenerError:
            self.save_checkpoint()
            raise
        due = request is None and self._seconds_since_checkpoint() >= self._interval / 10
        if due or session.finished:
            self.save_checkpoint()
        return request

    def _epoch_end(self, metrics: Mapping[str, float]) -> EpochEnd:
        spec, position = self.session.spec, self.session.position
        return EpochEnd(
            run=spec.run,
            identity=spec.identity,
            epoch=position.epoch,
            epochs=self.session.settings.epochs,
            step=position.step,
            metrics=metrics,
            folder=self.folder.path,
        )

    def _is_best(self, metrics: Mapping[str, float]) -> bool:
        """Return whether the validation metric that selects the checkpoint is better than in all earlier epochs."""
        info, best = self.session.info, self.session.position.best
        if info.select not in metrics:
            return False  # nothing is held out, so nothing can choose
        sign = 1 if info.metrics[info.select] == "max" else -1
        return best is None or sign * metrics[info.select] > sign * best["value"]

    def _add_step_scalars(self) -> None:
        session = self.session
        self.scalars.step(session.position.step, session.loss_sync.latest, session.optimizer.param_groups[0]["lr"])

    def _seconds_since_checkpoint(self) -> float:
        return time.monotonic() - self._saved

    def _append(self, event: str, **facts: Any) -> None:
        events.append(self.folder.events, self.owner, event, **facts)
