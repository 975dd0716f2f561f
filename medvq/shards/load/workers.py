"""Loader processes: forked, fed over a pipe with positions, answering with batches in shared memory."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing import util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
from numpy.typing import NDArray

from medvq.errors import MedvqError
from medvq.shards.load.buffers import Buffers, Kept
from medvq.shards.load.reader import Reader

_LOOK_UP = 5.0
"""Seconds after which an idle loader process looks whether its owner is still there."""


@dataclass(frozen=True, eq=False)
class BatchRequest:
    """One batch to read."""

    positions: NDArray[np.int64]
    """(B,) positions in the view."""
    crops: NDArray[np.float64] | None
    """(B, 3) where windows are cut, down and across, and how far turned, in [0, 1); None: in the centre, unturned."""


def read_batch(
    reader: Reader, work: BatchRequest, into: Buffers, kept: Kept | None, have: NDArray[np.bool_] | None
) -> None:
    """Read `work` into `into`; what `have` (B,) marks is copied from `kept`, the rest is decoded and left there.

    Raises:
        DataError: a sample is damaged.
    """
    if kept is None or have is None:
        reader.read(work.positions.tolist(), work.crops, into)
        return
    missing = work.positions[~have]
    if len(missing):
        reader.read(missing.tolist(), None, into)
        kept.copy_in(missing, into)
    if len(missing) < len(work.positions):
        kept.copy_out(work.positions, into)


class Ticket:
    """A batch under way in a loader process."""

    def __init__(self, number: int, worker: int) -> None:
        self.number, self.worker = number, worker
        self.done = False
        self.error: BaseException | None = None


class Workers:
    """A fixed set of loader processes."""

    def __init__(self, count: int, reader: Reader, buffers: list[Buffers], kept: Kept | None) -> None:
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._waiting: list[dict[int, Ticket]] = [{} for _ in range(count)]
        self._numbers = itertools.count()
        for i in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(theirs, [*self._pipes, ours], reader, buffers, kept),
                name=f"medvq-loader-{i}",
                daemon=True,
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        # Runs when this object dies or, at exit, before multiprocessing waits for its children.
        self._finalizer = util.Finalize(self, _stop, args=(self._pipes, self._processes), exitpriority=20)

    def submit(self, work: BatchRequest, slot: int, have: NDArray[np.bool_] | None) -> Ticket:
        """Start reading `work` into the buffers of `slot`."""
        worker = min(range(len(self._pipes)), key=lambda w: len(self._waiting[w]))
        ticket = Ticket(next(self._numbers), worker)
        try:
            self._pipes[worker].send((ticket.number, slot, work, have))
        except OSError as e:
            raise self._died(worker) from e
        self._waiting[worker][ticket.number] = ticket
        return ticket

    def wait(self, ticket: Ticket) -> None:
        """Wait until `ticket` is done.

        Raises:
            DataError: a sample is damaged.
            MedvqError: the loader process died.
        """
        while not ticket.done:
            try:
                number, error = self._pipes[ticket.worker].recv()
            except (EOFError, OSError) as e:
                raise self._died(ticket.worker) from e
            answered = self._waiting[ticket.worker].pop(number)
            answered.done, answered.error = True, error
        if ticket.error is not None:
            raise ticket.error

    def close(self) -> None:
        """End the processes."""
        self._finalizer()

    def _died(self, worker: int) -> MedvqError:
        process = self._processes[worker]
        process.join(timeout=5)
        return MedvqError(
            f"loader process {worker} ended unexpectedly (exit code {process.exitcode})",
            hint="-9 is most often the kernel's answer to too little memory: use fewer loader processes",
        )


def _stop(pipes: list[Connection], processes: list[BaseProcess]) -> None:
    for pipe in pipes:
        # Closing is not enough: any process that was forked since holds the pipe open too.
        with contextlib.suppress(OSError):
            pipe.send(None)
        pipe.close()
    for process in processes:
        process.join(timeout=10)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(
    pipe: Connection, inherited: list[Connection], reader: Reader, buffers: list[Buffers], kept: Kept | None
) -> None:
    # Only the main process should hold its ends: so that this one sees the pipe close when the main process is killed.
    for connection in inherited:
        connection.close()
    owner = os.getppid()
    # Stopping is the main process's to decide; SLURM and a terminal signal every process of a job.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    if "torch" in sys.modules:
        # One thread each: the processes are the parallelism, and OpenMP's threads do not survive a fork.
        sys.modules["torch"].set_num_threads(1)
    while True:
        try:
            while not pipe.poll(_LOOK_UP):
                if os.getppid() != owner:
                    return
            message = pipe.recv()
        except (EOFError, OSError):
            return
        if message is None:
            return
        number, slot, work, have = message
        error: Exception | None = None
        try:
            read_batch(reader, work, buffers[slot], kept, have)
        except MedvqError as e:
            error = e
        except Exception as e:
            error = MedvqError(f"a loader process failed: {type(e).__name__}: {e}")
        try:
            pipe.send((number, error))
        except OSError:
            return
