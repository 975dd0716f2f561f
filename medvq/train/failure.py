"""Failures of runs: which ones are the run's own, and how they are written down."""

from __future__ import annotations

import atexit
import contextlib
import errno
import threading
import traceback
from pathlib import Path

import torch

from medvq.errors import MedvqError
from medvq.models.quantize.codebook import NonFiniteCodesError
from medvq.runs import events
from medvq.runs.folder import RunFolder
from medvq.runs.owner import LostOwnershipError, Ownership
from medvq.train.batch_builder import bad_keys
from medvq.train.loss_sync import NonFiniteLossError
from medvq.train.session import Session
from medvq.train.world import World, lost_peer

LESS_MEMORY = "fewer workers, a smaller batch or train.accumulate help"
NO_MEMORY = "can't allocate memory"
"""Part of torch's message on a CPU, where it has no error class for this."""
FRAMES = 3
"""Lines of the traceback that are kept: the last ones."""
SAMPLES = 8
"""Keys of samples that are named at most."""
_exiting = threading.Event()
atexit.register(_exiting.set)


def write_failure(
    error: BaseException, folder: RunFolder, owner: Ownership, world: World, session: Session | None
) -> None:
    """Append a `failed` event, once per attempt, if the error is the run's own.

    It is not if another rank is gone, the disk is full, or the process was told to end.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit) or lost_peer(error) or _disk_is_full(error):
        return
    if _exiting.is_set():
        return  # the interpreter is shutting down, and torch fails because of that
    if any(e["event"] == "failed" and e["attempt"] == owner.attempt for e in events.read(folder.events)):
        return
    message = _message(error)
    if isinstance(error, NonFiniteLossError | NonFiniteCodesError) and session is not None:
        keys = bad_keys(session.loaders["train"], error.step)
        message += f"; samples of that batch: {', '.join(keys[:SAMPLES])}{', …' if len(keys) > SAMPLES else ''}"
    frames = [
        f"{Path(f.filename).name}:{f.lineno} in {f.name}: {f.line}" for f in traceback.extract_tb(error.__traceback__)
    ]
    log = str(folder.log(owner.attempt, world.rank))
    with contextlib.suppress(LostOwnershipError):
        events.append(folder.events, owner, "failed", error=message, traceback=frames[-FRAMES:], log=log)


def _disk_is_full(error: BaseException) -> bool:
    """Return whether the disk is full. The run is not to blame: it can go on once there is space."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _message(error: BaseException) -> str:
    """Return what went wrong in one line, with what to do if that is known."""
    if isinstance(error, MedvqError):
        return str(error)
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or NO_MEMORY in said:
        return f"out of memory ({said}); {LESS_MEMORY}"
    return f"{type(error).__name__}: {said}"
