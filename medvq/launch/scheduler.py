"""A plan being done: which runs are under way, which wait, and what becomes of those whose workers died."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medvq.errors import MedvqError, UsageError
from medvq.launch.plan import Runs
from medvq.launch.room import Room, shape_of_run
from medvq.launch.slurm.allocation import allocation
from medvq.launch.watch import Stop, Watch, cancelled
from medvq.runs import events
from medvq.runs.commands import announce_runs
from medvq.runs.owner import Busy, Term, claim, holder_of
from medvq.runs.process import Process
from medvq.runs.spec import RunSpec
from medvq.runs.state import RunStatus, status_of
from medvq.train.failure import LESS_MEMORY
from medvq.train.run import WorkItem
from medvq.workers.group import Group, GroupSpec, InProcess, Launcher
from medvq.workers.ray_group import LocalRay
from medvq.workers.torchrun_group import Torchrun

POLL = 0.2
FULL = os.strerror(errno.ENOSPC)
"""In what workers say of a full disk."""
OUT_OF_MEMORY = "OutOfMemory"
"""In what Ray says when it has killed a worker to save the node."""
Shape = tuple[str, int, int, bool]
"""Launcher, workers, threads, and whether they have GPUs: runs that agree on it can share a group."""


@dataclass
class Slot:
    """A part of the machine that does one group of runs at a time."""

    visible: str | None
    """The GPUs that it may use, as CUDA_VISIBLE_DEVICES has them; None is all."""
    launchers: dict[str, Launcher] = field(default_factory=dict)
    """What has been started here, by name; it serves one group after the other."""
    group: Group | None = None
    """The group under way."""
    batch: Sequence[RunSpec] = ()
    """Its runs."""
    before: dict[str, int] = field(default_factory=dict)
    """Their attempts before it began."""
    told: set[str] = field(default_factory=set)
    """Those whose end has been told."""

    def close(self) -> None:
        """End all that was started here."""
        for launcher in self.launchers.values():
            launcher.close()


class LocalScheduler:
    """Runs of a plan, in groups, some side by side, until nothing more can be done here."""

    def __init__(self, plan: Runs, todo: Sequence[RunSpec], stop: Stop, watch: Watch, room: Room, slots: int) -> None:
        self.plan, self.todo, self.stop, self.watch = plan, todo, stop, watch
        self.room = room.shared(slots)
        self.shapes = {spec.run: self._shape(spec) for spec in todo}
        self.deaths: dict[str, int] = {}
        self.given_up: set[str] = set()
        if slots > 1 and any(launcher == "in-process" for launcher, *_ in self.shapes.values()):
            raise UsageError(
                "runs in this process cannot go side by side", hint="give them workers of their own: --workers 1"
            )
        if slots > 1 and allocation() is not None and any(launcher == "ray" for launcher, *_ in self.shapes.values()):
            raise UsageError(
                "runs of one SLURM job go one after the other",
                hint="leave --parallel away; `medvq submit` sends each run as a SLURM job of its own",
            )
        self._uncancelled = cancelled(plan.folder)
        self.slots = [Slot(_visible(i, self.room.gpus) if slots > 1 else None) for i in range(slots)]

    def do(self) -> None:
        """Go on until every run is done, given up, or in other hands, or a stop is asked for.

        Raises:
            MedvqError: workers cannot be started at all.
        """
        term = Term.here()
        sent = term is not None and term.submission > 0  # SLURM knows of it, and when it is gone
        with contextlib.nullcontext(lambda runs: None) if sent else announce_runs(self.plan.folder) as mean:
            mean(spec.run for spec in self.todo)
            self._do(mean)

    def _do(self, mean: Callable[[Iterable[str]], None]) -> None:
        try:
            while True:
                if not self.stop.asked and cancelled(self.plan.folder) != self._uncancelled:
                    self.watch.note(f"{self.plan.folder.name} is cancelled: writing a checkpoint and stopping")
                    self.stop.ask()
                for slot in self.slots:
                    if slot.group is not None:
                        self._tell(slot)
                        if slot.group.wait(0):
                            self._settle(slot, slot.group.error)
                            mean(s.run for s in self.todo if s.run not in self.given_up)
                if not self.stop.asked:
                    self._fill()
                busy = [slot.group for slot in self.slots if slot.group is not None]
                if busy:
                    busy[0].wait(POLL)
                elif self.stop.asked or not self._wait_for_others():
                    return
        finally:
            for slot in self.slots:
                slot.close()

    def _fill(self) -> None:
        """Give every idle slot something to do, as far as there is."""
        for slot in self.slots:
            if slot.group is None:
                batch = self._take()
                if not batch:
                    return
                self._begin(slot, batch)

    def _take(self) -> list[RunSpec]:
        """Runs for one group: all that are ready where there is one slot, else so few that slots end together."""
        ready = self._ready()
        if len(self.slots) > 1:
            ready = ready[: -(-len(ready) // (2 * len(self.slots)))]
        return [spec for spec in ready if self.shapes[spec.run] == self.shapes[ready[0].run]]

    def _ready(self) -> list[RunSpec]:
        """Runs that are free, and what they need is done, or, with one slot, goes before them."""
        under_way = {spec.run for slot in self.slots if slot.group is not None for spec in slot.batch}
        fine: set[str] = set()
        ready: list[RunSpec] = []
        for spec in self.todo:
            if spec.run in under_way or spec.run in self.given_up:
                continue
            status = self._status(spec)
            if status.state == "done":
                fine.add(spec.run)
            elif not _elsewhere(status) and all(n.run in fine or self._is_done(n.run) for n in spec.needs.values()):
                ready.append(spec)
                if len(self.slots) == 1:
                    fine.add(spec.run)
        return ready

    def _begin(self, slot: Slot, batch: Sequence[RunSpec]) -> None:
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
            slot.launchers[launcher] = self._launcher(launcher, slot)
        self.watch.starting(len(batch), workers, launcher)
        slot.batch, slot.told = batch, set()
        slot.before = {spec.run: self._status(spec).attempts for spec in batch}
        spec = GroupSpec(workers=workers, threads=threads, gpus=gpus)
        slot.group = slot.launchers[launcher].start(items, spec, self.stop.file)

    def _launcher(self, name: str, slot: Slot) -> Launcher:
        """What starts workers: on this machine, or on every node that SLURM gave."""
        given, visible = allocation(), {"CUDA_VISIBLE_DEVICES": slot.visible} if slot.visible else {}
        if name == "in-process":
            return InProcess()
        if name == "torchrun":
            return Torchrun(visible)
        if given is not None:
            from medvq.launch.slurm.ray import AllocatedRay

            return AllocatedRay(given, self.plan.folder, self.watch.note)
        most = max(workers for launcher, workers, *_ in self.shapes.values() if launcher == "ray")
        ray = LocalRay(workers=most, gpus=self.room.gpus)
        ray.environment.update(visible)
        return ray

    def _tell(self, slot: Slot, ended: bool = False) -> None:
        """Tell of a slot's runs."""
        for spec in slot.batch:
            if spec.run in slot.told:
                continue
            status = self._status(spec)
            new = status.attempts > slot.before[spec.run] or spec.run in self.given_up
            if status.state == "done" or (ended and new and status.state in ("failed", "stopped")):
                slot.told.add(spec.run)
                self.watch.ended(spec, status)
            elif status.holder and status.holder.pid == os.getpid():
                self.watch.active(spec, status)
                return

    def _settle(self, slot: Slot, error: BaseException | None) -> None:
        """A group has ended: decide what becomes of its runs.

        A run that failed by its own fault, or was stopped by its own stop file, is not taken up again. Where workers
        died, the run that they were at is, as often as its `retries` say.
        """
        slot.group = None
        if error is not None:
            for spec in slot.batch:
                self._free(spec)
        states = {spec.run: self._status(spec) for spec in slot.batch}
        # Another terminal may have begun runs of the batch since; those are not this one's to give up.
        left = [s for s in slot.batch if states[s.run].state != "done" and _elsewhere(states[s.run]) is None]
        tried = [s for s in left if states[s.run].attempts > slot.before[s.run]]
        failed = [s for s in tried if states[s.run].state == "failed"]
        stopped = [s for s in tried if states[s.run].asked]
        self.given_up |= {s.run for s in ([*failed, *stopped] if error else tried)}
        if isinstance(error, MedvqError):
            raise error
        if error is not None and not failed and (isinstance(error, OSError) or FULL in str(error)):
            why, file = (error.strerror or error, error.filename) if isinstance(error, OSError) else (FULL, None)
            raise MedvqError(
                f"the run folder cannot be written: {why}",
                where=str(file or self.plan.folder),
                hint="free some space or mend the permissions; the same command then goes on",
            ) from error
        open_ = [s for s in left if s.run not in self.given_up]
        if error is not None and open_ and not failed and not self.stop.asked:
            begun = [s for s in open_ if s in tried]
            self._mourn((begun or open_)[0], bool(begun), error)
        self._tell(slot, ended=True)

    def _free(self, spec: RunSpec) -> None:
        """Let go of a run that workers of this process held when they died; those that live on cannot write."""
        folder, mine = self.plan.folder_of(spec), Process.current()
        holder = holder_of(folder.owner)
        if holder is None or (holder.host, holder.pid) != (mine.host, mine.pid):
            return
        owner = claim(folder.owner, mine, Term.here(), look_back=True)
        if not isinstance(owner, Busy):
            folder.progress.unlink(missing_ok=True)
            owner.release()

    def _mourn(self, spec: RunSpec, begun: bool, error: BaseException) -> None:
        """Workers died at a run, or before it had begun, and no run says that it was to blame."""
        deaths = self.deaths[spec.run] = self.deaths.get(spec.run, 0) + 1
        if OUT_OF_MEMORY in str(error):
            self._give_up(spec, f"the machine ran out of memory; {LESS_MEMORY}")
        elif deaths <= spec.config.resources.retries:
            where = "starting again from the last checkpoint" if begun else "starting again"
            self.watch.note(f"{spec.run}: a process died; {where}")
        elif begun:
            self._give_up(spec, f"its processes died {deaths} times; the last time: {error}")
        else:
            raise MedvqError(f"the workers could not do their work: {error}") from error

    def _give_up(self, spec: RunSpec, why: str) -> None:
        """Write down that a run has failed here. Inside a SLURM job, SLURM may still have another node for it."""
        self.given_up.add(spec.run)
        if allocation() is not None:
            self.watch.note(f"{spec.run}: {why}")
            return
        folder = self.plan.folder_of(spec)
        owner = claim(folder.owner, Process.current(), Term.here(), look_back=True)
        if not isinstance(owner, Busy):
            log = str(folder.log(owner.attempt, 0))
            events.append(folder.events, owner, "failed", error=why, traceback=[], log=log)
            owner.release()

    def _wait_for_others(self) -> bool:
        """Wait while another terminal works on runs that are still wanted; False if there are none."""
        said = False
        while not self.stop.asked:
            busy = [
                (s, h)
                for s in self.todo
                if s.run not in self.given_up and (h := _elsewhere(self._status(s))) is not None
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
        workers, threads = shape_of_run(spec, self.room)
        gpus = self.room.of(resources).gpus > 0
        return (resources.launcher if workers else "in-process"), workers, threads, gpus

    def _status(self, spec: RunSpec) -> RunStatus:
        return status_of(self.plan.folder_of(spec))

    def _is_done(self, run: str) -> bool:
        return Path(self.plan.folder / run / "result.json").exists()


def _elsewhere(status: RunStatus) -> Busy | None:
    """Who else works on a run. What this process still seems to hold was left by workers of its that died."""
    holder = status.holder
    if holder is None or (holder.host, holder.pid) == (socket.gethostname(), os.getpid()):
        return None
    return None if holder.yields_to(Term.here()) else holder


def _visible(slot: int, gpus: int) -> str | None:
    """The GPUs of a slot that has `gpus` of those that this process sees."""
    if not gpus:
        return None
    known = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = known.split(",") if known else [str(i) for i in range((slot + 1) * gpus)]
    return ",".join(names[slot * gpus : (slot + 1) * gpus])
