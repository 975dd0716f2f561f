"""Listeners: objects that are told about every epoch of a run while it trains.

A study names the classes of its listeners by import path, `resources: {listeners: ["my_lab.watch:Printer"]}`. Every
attempt at a run makes one object of each class, without arguments, on rank 0. Listeners do not change a run's numbers
and are not part of its identity.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medvq.registry import add_to_path, import_object
from medvq.runs.spec import RunSpec

log = logging.getLogger(__name__)
Ending = Literal["done", "stopped", "failed", "busy"]
"""How an attempt ended: `done` with a result, `stopped` with a checkpoint from which the run can go on, `failed` with
an error, or `busy` because another process has taken the run over."""


@dataclass(frozen=True, kw_only=True)
class EpochEnd:
    """One finished epoch of a run."""

    run: str
    """Name of the run."""
    identity: str | None
    """Identity of the run, 12 hex digits."""
    epoch: int
    """Number of the epoch, from 1."""
    epochs: int
    """Epochs that the run is to train for."""
    step: int
    """Optimizer steps taken in all."""
    metrics: Mapping[str, float]
    """Metrics of the epoch by full name: mean losses such as `train/loss`, measured metrics such as `val/accuracy`."""
    folder: Path
    """The run's folder. `events.jsonl` in it has all earlier epochs."""


@dataclass(frozen=True, kw_only=True)
class AttemptEnd:
    """The end of an attempt at a run."""

    run: str
    """Name of the run."""
    identity: str | None
    """Identity of the run, 12 hex digits."""
    outcome: Ending
    """How the attempt ended."""
    folder: Path
    """The run's folder."""


@dataclass(frozen=True)
class StopTraining:
    """A listener's request to stop the run."""

    reason: str
    """Why, in a few words. It stands in the `stopped` event of `events.jsonl`."""


class EpochListener:
    """Base class of listeners. Override one or both methods.

    Training waits while a listener works. A run that goes on after a stop has new listeners, and an epoch that was not
    in a checkpoint yet is trained and told again.
    """

    def on_epoch(self, epoch: EpochEnd) -> StopTraining | None:
        """Take note of an epoch, whose metrics are in `events.jsonl` by now.

        Return `StopTraining` to end the run here: all ranks stop, a checkpoint is written, and the run's state is
        `stopped`, so that starting it again goes on. After the last epoch such a request has no effect.

        An exception fails the run, after a checkpoint was written.
        """
        return None

    def on_end(self, end: AttemptEnd) -> None:
        """Take note of the end of the attempt. An exception is logged and changes nothing.

        It is not called if the process is killed.
        """


class ListenerError(RuntimeError):
    """A listener could not be made, raised an error, or did not return what it should."""


class Listeners:
    """The listeners of one attempt at a run."""

    def __init__(self, listeners: Mapping[str, EpochListener]) -> None:
        """Take listeners by import path."""
        self._listeners = dict(listeners)

    @classmethod
    def of(cls, spec: RunSpec) -> Listeners:
        """Make the listeners that a run names.

        Raises:
            UsageError: a class cannot be imported.
            ListenerError: a class cannot be called without arguments.
        """
        found: dict[str, EpochListener] = {}
        for path in spec.config.resources.listeners:
            add_to_path(spec.listeners[path])
            kind = import_object(path, "listener")
            try:
                found[path] = kind()
            except Exception as e:
                raise _error(path, "cannot be made", e) from e
        return cls(found)

    def on_epoch(self, epoch: EpochEnd) -> tuple[str, StopTraining] | None:
        """Tell every listener about an epoch; return the first request to stop and the import path of who made it.

        Raises:
            ListenerError: a listener raised an error or returned something else.
        """
        requests: list[tuple[str, StopTraining]] = []
        for path, listener in self._listeners.items():
            try:
                answer: Any = listener.on_epoch(dataclasses.replace(epoch, metrics=dict(epoch.metrics)))
            except Exception as e:
                raise _error(path, "failed in on_epoch", e) from e
            if isinstance(answer, StopTraining):
                requests.append((path, answer))
            elif answer is not None:
                raise ListenerError(f"{path} returned a {type(answer).__name__}, not StopTraining or None")
        return requests[0] if requests else None

    def on_end(self, end: AttemptEnd) -> None:
        """Tell every listener that the attempt has ended; log their errors."""
        for path, listener in self._listeners.items():
            try:
                listener.on_end(end)
            except Exception:
                log.exception("the listener %s failed in on_end", path)


def _error(path: str, what: str, error: Exception) -> ListenerError:
    """Return an error that names the listener and whose traceback ends in the user's code."""
    said = ListenerError(f"{path} {what}: {type(error).__name__}: {error}")
    return said.with_traceback(error.__traceback__)
