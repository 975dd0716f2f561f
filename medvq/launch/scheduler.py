"""The scheduler of `medvq run`: which runs of a plan are ready, and which group of workers does them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from medvq.errors import UsageError
from medvq.launch.allocation.allocation import allocation
from medvq.launch.capacity import Capacity, shape_of_run
from medvq.launch.plan import Runs
from medvq.launch.recovery import Recovery, busy_elsewhere
from medvq.launch.slots import Slot, new_launcher, visible_gpus
from medvq.launch.watch import Stop, Watch, cancelled
from medvq.runs.commands import announce_runs
from medvq.runs.owner import Term
from medvq.runs.process import Process
from medvq.runs.spec import RunSpec
from medvq.runs.state import RunStatus, status_of
from medvq.train.run import WorkItem
from medvq.workers.group import GroupSpec

POLL = 0.2
"""Seconds between two looks at the groups."""
Shape = tuple[str, int, int, bool]
"""Launcher, workers, threads, and whether workers have GPUs: runs of the same shape can share a group."""


class LocalScheduler:
    """Does the runs of a plan in groups, some of them side by side, until nothing more can be done here."""

    def __init__(
        self, plan: Runs, todo: Sequence[RunSpec], stop: Stop, watch: Watch, capacity: Capacity, slots: int
    ) -> None:
        self.plan, self.todo, self.stop, self.watch = plan, todo, stop, watch
        self.capacity = capacity.shared(slots)
        self.shapes = {spec.run: self._shape(spec) for spec in todo}
        self.recovery = Recovery(plan, watch)
        if slots > 1 and any(launcher == "in-process" for launcher, *_ in self.shapes.values()):
            raise UsageError(
                "runs in this process cannot go side by side", hint="give them workers of their own: --workers 1"
            )
        if slots > 1 and allocation() is not None and any(launcher == "ray" for launcher, *_ in self.shapes.values()):
            raise UsageError(
                "runs of one SLURM job go one after the other",
                hint="leave --parallel away; `medvq submit` sends each run as a SLURM job of its own",
            )
        self._cancelled_before = cancelled(plan.folder)
        self.slots = [Slot(visible_gpus(i, self.capacity.gpus) if slots > 1 else None) for i in range(slots)]

    def run(self) -> None:
        """Go on until every run is done, given up or done by another process, or until a stop is requested.

        Raises:
            MedvqError: workers cannot be started at all.
        """
        term = Term.here()
        submitted = term is not None and term.submission > 0  # SLURM knows of it, and when it has ended
        with contextlib.nullcontext(lambda runs: None) if submitted else announce_runs(self.plan.folder) as announce:
            announce(spec.run for spec in self.todo)
            self._loop(announce)

    def settle(self, slot: Slot, error: BaseException | None) -> None:
        """Close the books of a group that has ended, and report its runs.

        Raises:
            MedvqError: as `Recovery.settle`.
        """
        slot.group = None
        self.recovery.settle(slot.batch, slot.attempts_before, error, self.stop.asked)
        self._report(slot, ended=True)

    def _loop(self, announce: Callable[[Iterable[str]], None]) -> None:
        try:
            while True:
                if not self.stop.asked and cancelled(self.plan.folder) != self._cancelled_before:
                    self.watch.note(f"{self.plan.folder.name} is cancelled: writing a checkpoint and stopping")
                    self.stop.ask()
                for slot in self.slots:
                    if slot.group is not None:
                        self._report(slot)
                        if slot.group.wait(0):
                            self.settle(slot, slot.group.error)
                            announce(s.run for s in self.todo if s.run not in self.recovery.given_up)
                if not self.stop.asked:
                    self._fill_slots()
                busy = [slot.group for slot in self.slots if slot.group is not None]
                if busy:
                    busy[0].wait(POLL)
                elif self.stop.asked or not self._wait_for_others():
                    return
        finally:
            for slot in self.slots:
                slot.close()

    def _fill_slots(self) -> None:
        """Start a group in every idle slot, as long as there are runs that are ready."""
        for slot in self.slots:
            if slot.group is None:
                batch = self._next_batch()
                if not batch:
                    return
                self._start(slot, batch)

    def _next_batch(self) -> list[RunSpec]:
        """Return runs for one group: with one slot all that are ready, else so few that slots end together."""
        ready = self._ready()
        if len(self.slots) > 1:
            ready = ready[: -(-len(ready) // (2 * len(self.slots)))]
        return [spec for spec in ready if self.shapes[spec.run] == self.shapes[ready[0].run]]

    def _ready(self) -> list[RunSpec]:
        """Return runs that nobody works on and whose needs are done or, with one slot, come before them."""
        running = {spec.run for slot in self.slots if slot.group is not None for spec in slot.batch}
        satisfied: set[str] = set()
        ready: list[RunSpec] = []
        for spec in self.todo:
            if spec.run in running or spec.run in self.recovery.given_up:
                continue
            status = self._status(spec)
            if status.state == "done":
                satisfied.add(spec.run)
            elif not busy_elsewhere(status) and all(
                n.run in satisfied or self._is_done(n.run) for n in spec.needs.values()
            ):
                ready.append(spec)
                if len(self.slots) == 1:
                    satisfied.add(spec.run)
        return ready

    def _start(self, slot: Slot, batch: Sequence[RunSpec]) -> None:
        launcher, workers, threads, gpus = self.shapes[batch[0].run]
        holder, term = Process.current().record(), Term.here()
        items = [
            WorkItem(
                spec=spec.model_dump(mode="json"),
                folder=str(self.plan.folder_of(spec).path.resolve()),
                holder=holder,
                term=asdict(term) if term else None,
            )
            for spec in batch
        ]
        if launcher not in slot.launchers:
            slot.launchers[launcher] = new_launcher(
                launcher,
                slot.visible,
                ray_workers=max((n for name, n, *_ in self.shapes.values() if name == "ray"), default=0),
                gpus=self.capacity.gpus,
                shared=self.plan.folder,
                note=self.watch.note,
            )
        self.watch.starting(len(batch), workers, launcher)
        slot.batch, slot.reported = batch, set()
        slot.attempts_before = {spec.run: self._status(spec).attempts for spec in batch}
        spec = GroupSpec(workers=workers, threads=threads, gpus=gpus)
        slot.group = slot.launchers[launcher].start(items, spec, self.stop.file)

    def _report(self, slot: Slot, ended: bool = False) -> None:
        """Report the run of a slot that is active, and those that have ended.

        Args:
            slot: where they run.
            ended: whether the group has ended, so that failed and stopped runs are reported too.
        """
        for spec in slot.batch:
            if spec.run in slot.reported:
                continue
            status = self._status(spec)
            new = status.attempts > slot.attempts_before[spec.run] or spec.run in self.recovery.given_up
            if status.state == "done" or (ended and new and status.state in ("failed", "stopped")):
                slot.reported.add(spec.run)
                self.watch.ended(spec, status)
            elif status.holder and status.holder.pid == os.getpid():
                self.watch.active(spec, status)
                return

    def _wait_for_others(self) -> bool:
        """Wait while another process works on runs that are still wanted; return whether any run is ready then."""
        said = False
        while not self.stop.asked:
            busy = [
                (spec, holder)
                for spec in self.todo
                if spec.run not in self.recovery.given_up and (holder := busy_elsewhere(self._status(spec))) is not None
            ]
            if not busy:
                return bool(self._ready())
            if not said:
                spec, holder = busy[0]
                self.watch.note(f"{spec.run} is being done by process {holder.pid} on {holder.host}; waiting for it")
                said = True
            time.sleep(POLL)
        return False

    def _shape(self, spec: RunSpec) -> Shape:
        resources = spec.config.resources
        workers, threads = shape_of_run(spec, self.capacity)
        gpus = self.capacity.of(resources).gpus > 0
        return (resources.launcher if workers else "in-process"), workers, threads, gpus

    def _status(self, spec: RunSpec) -> RunStatus:
        return status_of(self.plan.folder_of(spec))

    def _is_done(self, run: str) -> bool:
        return Path(self.plan.folder / run / "result.json").exists()
