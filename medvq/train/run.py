"""One attempt at one run, from the claim to the result, on every rank of a worker group."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medvq.files import make_folder
from medvq.runs import events
from medvq.runs.folder import RunFolder
from medvq.runs.owner import Busy, LostOwnershipError, Ownership, Term, claim
from medvq.runs.process import Process
from medvq.runs.spec import RunSpec
from medvq.train.attempt_log import attempt_log
from medvq.train.failure import write_failure
from medvq.train.finish import finish
from medvq.train.listener import Ending, Listeners
from medvq.train.loop import train
from medvq.train.recorder import Recorder, leave_together
from medvq.train.session import Session
from medvq.train.setup import open_session
from medvq.train.world import World, pin

log = logging.getLogger(__name__)
Outcome = Ending | Literal["blocked"]
"""How an attempt ended, or why there was none: the run is `done` already, `busy` elsewhere, or `blocked` because a run
that it needs is not done."""


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
    """Do a run, or say why not. All ranks return the same outcome.

    Raises:
        Exception: the error that made the run fail, after it was written down.
    """
    spec, folder = RunSpec.model_validate(item.spec), RunFolder(Path(item.folder))
    owner = world.broadcast(_take(spec, folder, item) if world.is_main else None)
    if not isinstance(owner, Ownership):
        outcome: Outcome = owner
        return outcome
    beating = owner.send_heartbeats() if world.is_main else contextlib.nullcontext()
    with attempt_log(folder.log(owner.attempt, world.rank)), beating:
        try:
            return _attempt(spec, folder, owner, world, item.term, stop_requested)
        finally:
            if world.is_main:
                with contextlib.suppress(LostOwnershipError), owner.writing():
                    folder.progress.unlink(missing_ok=True)
                owner.release()


def _attempt(
    spec: RunSpec,
    folder: RunFolder,
    owner: Ownership,
    world: World,
    term: dict[str, Any] | None,
    stop_requested: Callable[[], bool],
) -> Ending:
    """Train, finish, and write a failure down; tell the listeners how it ended."""
    session: Session | None = None
    recorder: Recorder | None = None
    ending: Ending = "failed"
    try:
        hosts = world.gather(socket.gethostname())
        lost: LostOwnershipError | None = None
        if world.is_main:
            try:
                _begin(folder, owner, world, hosts, term)
            except LostOwnershipError as e:
                lost = e
        leave_together(world, lost)
        pin(world.threads)
        session = open_session(spec, folder, world, stop_requested)
        recorder = Recorder(session, folder, owner, Listeners.of(spec) if world.is_main else Listeners({}))
        trained = train(session, recorder)
        if trained:
            finish(session, recorder)
        session.close()
        recorder.close()
        ending = "done" if trained else "stopped"
    except LostOwnershipError as e:
        log.warning("%s", e)
        ending = "busy"
    except BaseException as e:
        log.exception("the run failed")
        write_failure(e, folder, owner, world, session)
        raise
    finally:
        if recorder is not None:
            recorder.end(ending)
    return ending


def _take(spec: RunSpec, folder: RunFolder, item: WorkItem) -> Ownership | Outcome:
    """Claim the run; return the claim, or why the run is not to be done now."""
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
    """Write down who begins the attempt, where, and with what."""
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
    """Remove a request to stop that was made before this attempt; keep one that was made since the claim."""
    with contextlib.suppress(FileNotFoundError):
        if folder.stop.stat().st_mtime_ns < folder.owner.stat().st_mtime_ns:
            folder.stop.unlink()
