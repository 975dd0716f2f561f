"""One attempt at one run, from the claim to the result, on every rank of a worker group."""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from medvq.errors import MedvqError
from medvq.files import make_folder, remove_folder, replace_folder, write_json
from medvq.models.quantize.codebook import NonFiniteCodesError
from medvq.runs import events
from medvq.runs.artifacts.predictions import name_of, write_predictions
from medvq.runs.folder import RunFolder
from medvq.runs.owner import Busy, LostOwnershipError, Ownership, Term, claim
from medvq.runs.process import Process
from medvq.runs.spec import RunSpec
from medvq.train import checkpoint
from medvq.train.batch_builder import bad_keys
from medvq.train.loop import train
from medvq.train.loss_sync import NonFiniteLossError
from medvq.train.performance import eager
from medvq.train.session import Session
from medvq.train.setup import open_session
from medvq.train.tasks.base import Evaluated
from medvq.train.world import World, lost_peer, pin

log = logging.getLogger(__name__)
LESS_MEMORY = "fewer workers, a smaller batch or train.accumulate help"
NO_MEMORY = "can't allocate memory"
"""In what torch says on a CPU, where it has no error of its own for this."""
_ending = threading.Event()
atexit.register(_ending.set)
Outcome = Literal["done", "stopped", "busy", "blocked", "failed"]


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """A run to do, as plain data that travels to the workers."""

    spec: dict[str, Any]
    folder: str
    holder: dict[str, Any]
    """The process that started the workers; the run is free again when it is gone."""
    term: dict[str, Any] | None = None
    """The SLURM job's `Term`."""


def run_one(item: WorkItem, world: World, stop_requested: Callable[[], bool]) -> Outcome:
    """Do a run, or say why not. All ranks come to the same outcome.

    Raises:
        Exception: whatever made the run fail, after it was written down.
    """
    spec, folder = RunSpec.model_validate(item.spec), RunFolder(Path(item.folder))
    owner = world.broadcast(_take(spec, folder, item) if world.is_main else None)
    if not isinstance(owner, Ownership):
        outcome: Outcome = owner
        return outcome
    hosts = world.gather(socket.gethostname())
    beating = owner.send_heartbeats() if world.is_main else contextlib.nullcontext()
    with _logging(folder.log(owner.attempt, world.rank)), beating:
        try:
            if world.is_main:
                _begin(folder, owner, world, hosts, item.term)
            pin(world.threads)
            session = open_session(spec, folder, owner, world, stop_requested)
            finished = train(session)
            if finished:
                finish(session)
            session.close()
            return "done" if finished else "stopped"
        except LostOwnershipError as e:
            log.warning("%s", e)
            return "busy"
        except BaseException as e:
            log.exception("the run failed")
            _fail(session if "session" in locals() else None, folder, owner, world, e)
            raise
        finally:
            if world.is_main:
                with contextlib.suppress(LostOwnershipError), owner.writing():
                    folder.progress.unlink(missing_ok=True)
                owner.release()


def finish(session: Session) -> None:
    """Evaluate the chosen checkpoint on validation and test; artifacts and the result appear together."""
    from medvq.runs.artifacts.watched import watched_metrics

    spec, folder, world = session.spec, session.folder, session.world
    info = session.info
    which = info.default_checkpoint if spec.source.held_out else "last"
    chosen = world.broadcast(checkpoint.find(folder.checkpoints, which) if world.is_main else None)
    checkpoint.load_model(chosen, session.task.model)
    found = session.evaluate_splits(spec.source.measured)
    metrics = session.metrics(found)
    if not world.is_main:
        return
    session.progress.show(session.position.step, session.loss_sync.latest, phase="writing the result")
    history = events.epochs(events.read(folder.events))
    artifacts = _artifacts(session, found, history)
    if session.watches_test:
        tests = {n: better for n, better in info.declared.items() if n.split("/")[0] in ("test", "val+test")}
        metrics |= watched_metrics(history, tests, best_on_test="best_on_test" in spec.config.as_published)
    result = {
        "run": spec.run,
        "identity": spec.identity,
        "job": spec.job,
        "values": spec.values,
        "task": spec.config.task,
        "checkpoint": which,
        "epoch": checkpoint.read_state(chosen)["position"]["epoch"],
        "epochs": spec.config.train.epochs,
        "steps": session.position.step,
        "samples": {split: len(loader.view) for split, loader in session.loaders.items()},
        "train_classes": session.class_counts(),
        **({"shares": session.shares()} if spec.source.mix else {}),
        "metrics": metrics,
    }
    events.append(folder.events, session.owner, "done", step=session.position.step)
    with session.owner.writing():
        replace_folder(artifacts, folder.artifacts)
        write_json(folder.result, result)


def _artifacts(session: Session, found: Mapping[str, Evaluated], history: Sequence[Mapping[str, Any]]) -> Path:
    """Predictions and pictures, in a folder beside their place: another attempt may have taken the run over."""
    from medvq.runs.artifacts.figures import curves

    place = session.folder.artifacts
    with session.owner.writing():
        for old in place.parent.glob(f".{place.name}.*.tmp"):
            remove_folder(old)
    beside = make_folder(place.with_name(f".{place.name}.{session.owner.attempt}.tmp"))
    source = session.spec.source
    shown = (source.held_out or ("train",))[-1]
    session.task.eval()
    with eager(session.spec.config.resources):
        for split, measured in found.items():
            if "+" not in split:
                columns = {"key": measured.keys, **session.task.prediction_columns(measured)}
                write_predictions(beside / name_of(split), columns)
        session.task.write_artifacts(beside, found[shown], session.batch_builder.gallery(session.loaders[shown].view))
    curves(history, beside / "curves.png")
    return beside


def _take(spec: RunSpec, folder: RunFolder, item: WorkItem) -> Ownership | Outcome:
    """The run, or why it is not to be done now."""
    if folder.result.exists():
        return "done"
    for need in spec.needs.values():
        if not RunFolder(folder.path.parent / need.run).result.exists():
            return "blocked"
    known = max((int(e.get("attempt", 0)) for e in events.read(folder.events, glance=True)), default=0)
    owner = claim(folder.owner, Process.of(item.holder), Term(**item.term) if item.term else None, known=known)
    if isinstance(owner, Busy):
        return "busy"
    if folder.result.exists():
        owner.release()
        return "done"
    return owner


def _begin(folder: RunFolder, owner: Ownership, world: World, hosts: list[str], term: dict[str, Any] | None) -> None:
    _drop_old_request(folder)
    make_folder(folder.checkpoints)
    events.append(
        folder.events,
        owner,
        "attempt",
        host=hosts[0],
        hosts=list(dict.fromkeys(hosts)),
        pid=os.getpid(),
        launcher=world.launcher,
        workers=world.size,
        threads=world.threads,
        device=str(world.device),
        slurm=term,
    )


def _drop_old_request(folder: RunFolder) -> None:
    """Remove a request to stop that was made before this attempt; one made since the claim is meant for it."""
    with contextlib.suppress(FileNotFoundError):
        if folder.stop.stat().st_mtime_ns < folder.owner.stat().st_mtime_ns:
            folder.stop.unlink()


def _fail(session: Session | None, folder: RunFolder, owner: Ownership, world: World, error: BaseException) -> None:
    """Write a failure down, once per attempt."""
    said = [e for e in events.read(folder.events) if e["event"] == "failed" and e["attempt"] == owner.attempt]
    if said or lost_peer(error) or _no_room(error) or isinstance(error, KeyboardInterrupt | SystemExit):
        return
    if _ending.is_set():
        return  # this process was told to end, and torch is being taken down under the run's feet
    message = _message(error)
    if isinstance(error, NonFiniteLossError | NonFiniteCodesError) and session is not None:
        keys = bad_keys(session.loaders["train"], error.step)
        message += f"; samples of that batch: {', '.join(keys[:8])}{', …' if len(keys) > 8 else ''}"
    frames = [
        f"{Path(f.filename).name}:{f.lineno} in {f.name}: {f.line}" for f in traceback.extract_tb(error.__traceback__)
    ]
    with contextlib.suppress(LostOwnershipError):
        events.append(
            folder.events,
            owner,
            "failed",
            error=message,
            traceback=frames[-3:],
            log=str(folder.log(owner.attempt, world.rank)),
        )


def _no_room(error: BaseException) -> bool:
    """Whether the disk is full: not the run's own fault, and the same run goes on once there is room."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _message(error: BaseException) -> str:
    """What went wrong, in one line, and what to do where that is known."""
    if isinstance(error, MedvqError):
        return str(error)
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or NO_MEMORY in said:
        return f"out of memory ({said}); {LESS_MEMORY}"
    return f"{type(error).__name__}: {said}"


class _Log(logging.FileHandler):
    """A log that says nothing on the terminal where the disk is full: the run is stopped for more than that."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it
        """Drop the record."""


@contextlib.contextmanager
def _logging(path: Path) -> Iterator[None]:
    """Everything that medvq and Python's warnings say during the attempt goes to its log."""
    make_folder(path.parent)
    handler = _Log(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger("medvq"), logging.getLogger("py.warnings")]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        with warnings.catch_warnings():
            yield
    finally:
        logging.captureWarnings(False)
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
        handler.close()
