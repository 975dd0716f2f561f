"""`medvq run`: read a study, plan it, do what is missing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from medvq.config.expand import Override
from medvq.config.resolve import Study, load_study
from medvq.errors import MedvqError, NotFoundError
from medvq.launch.data import Found, find_data, given_for
from medvq.launch.here import run_here
from medvq.launch.plan import Runs, StudyPlan, jobs_for, make_plan, record
from medvq.launch.watch import Stop, Watch, limited, stopping
from medvq.runs.state import RunStatus, State, status_of, with_needs

GRACE_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked for."""

    study: str
    only: Sequence[str] = ()
    sets: Sequence[str] = ()
    smoke: bool = False
    workers: int | None = None
    cache: Path | None = None
    data: Mapping[str, str]
    datasets: Path
    runs: Path


def load(request: Request) -> Study:
    """The study with everything laid over it."""
    overrides = []
    if request.workers is not None:
        overrides.append(Override("--workers", None, "resources.workers", request.workers))
    if request.cache is not None:
        overrides.append(Override("--cache", None, "resources.cache", str(request.cache.resolve())))
    return load_study(request.study, sets=request.sets, overrides=overrides, smoke=request.smoke)


def data_for(
    request: Request, *, make: Callable[[str], None] | None = None, absent: dict[str, MedvqError] | None = None
) -> tuple[Study, dict[str, Found | None]]:
    """The study, and the datasets of the jobs that are asked for; `make` and `absent` as for `find_data`."""
    study = load(request)
    found = find_data(
        study,
        jobs_for(study, request.only),
        given=request.data,
        datasets=request.datasets,
        study_folder=request.runs / study.name,
        make=make,
        absent=absent,
    )
    return study, found


def plan_for(request: Request, say: Watch | None) -> StudyPlan:
    """The runs. If nobody is told none will be done: nothing is drawn, and absent data leave identities open."""
    absent: dict[str, MedvqError] = {}
    study, found = data_for(request, make=say.note if say else None, absent=None if say else absent)
    given = given_for(study, request.data)
    for name, error in absent.items():
        if name in given or not isinstance(error, NotFoundError):
            raise error
    return make_plan(study, found, runs=request.runs, only=request.only)


def states_of(plan: Runs) -> dict[str, tuple[State, RunStatus]]:
    """The state of every run of a plan, by name."""
    statuses = {spec.run: status_of(plan.folder_of(spec)) for spec in plan.runs}
    runs = [{"run": s.run, "needs": {r: n.model_dump() for r, n in s.needs.items()}} for s in plan.runs]
    states = with_needs(runs, statuses)
    return {name: (states[name], status) for name, status in statuses.items()}


def execute(plan: StudyPlan, watch: Watch, *, parallel: int | Literal["auto"] = 1, budget: float | None = None) -> bool:
    """Record the plan and do it here, within `budget` seconds; returns whether it was stopped."""
    with stopping(plan.folder) as stop, listening(stop, watch), limited(stop, watch, budget):
        run_here(plan, stop, watch, parallel, begin=lambda: record(plan))
        return stop.asked


@contextmanager
def listening(stop: Stop, watch: Watch) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGUSR1 into a stop request; a second Ctrl-C interrupts at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not stop.asked:  # batch scripts repeat it
            watch.note(
                f"{signal.Signals(number).name}: writing a checkpoint and stopping; Ctrl-C again gives up at once"
            )
        stop.ask()

    before = {number: signal.signal(number, ask) for number in GRACE_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
