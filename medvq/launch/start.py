"""`medvq run`: read a study, plan its runs, do what is missing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from medvq.config.expand import Override, Point
from medvq.config.resolve import Study, load_study
from medvq.config.schema import validate
from medvq.config.study import Resources
from medvq.config.yamlfile import Document
from medvq.errors import MedvqError, NotFoundError, RunsFailedError, StoppedError
from medvq.launch.data import Found, find_data, given_for
from medvq.launch.here import run_here
from medvq.launch.plan import Runs, StudyPlan, jobs_for, make_plan, record
from medvq.launch.watch import Stop, Watch, limited, stopping
from medvq.runs.state import RunStatus, State, status_of, with_needs

GRACE_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of a command that works on a study."""

    study: str | Path | Study
    """Its name or path, or a study that was loaded before; `sets` and `smoke` belong to the first two."""
    only: Sequence[str] = ()
    sets: Sequence[str] = ()
    smoke: bool = False
    workers: int | Literal["auto"] | None = None
    """Workers of every run; None is what the study says."""
    cache: Path | None = None
    data: Mapping[str, str]
    datasets: Path
    runs: Path


def load(request: Request) -> Study:
    """Return the study with the options of the request applied."""
    resources: dict[str, Any] = {}
    if request.workers is not None:
        resources["workers"] = request.workers
    if request.cache is not None:
        resources["cache"] = str(request.cache.resolve())
    if isinstance(request.study, Study):
        return _with_resources(request.study, resources)
    overrides = [Override(f"--{name}", None, f"resources.{name}", value) for name, value in resources.items()]
    return load_study(request.study, sets=request.sets, overrides=overrides, smoke=request.smoke)


def _with_resources(study: Study, changes: Mapping[str, Any]) -> Study:
    """Return the study with other resources for every run; they are in no run's identity."""

    def changed(point: Point) -> Point:
        values = {**point.config.resources.model_dump(), **changes}
        resources = validate(Resources, Document(path="resources", text="", data=values))
        return replace(point, config=point.config.model_copy(update={"resources": resources}))

    if not changes:
        return study
    return replace(
        study,
        jobs={job: [changed(point) for point in points] for job, points in study.jobs.items()},
        overrides=(*study.overrides, *(f"--{name}" for name in changes)),
    )


def data_for(
    request: Request, *, make: Callable[[str], None] | None = None, absent: dict[str, MedvqError] | None = None
) -> tuple[Study, dict[str, Found | None]]:
    """Return the study and the datasets of the requested jobs; `make` and `absent` are passed to `find_data`."""
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
    """Return the runs of the requested jobs.

    Args:
        request: the arguments of the command.
        say: is told when synthetic data are drawn. None means that the plan is only shown: nothing is drawn, and runs
            whose data are missing have no identity yet.
    """
    absent: dict[str, MedvqError] = {}
    study, found = data_for(request, make=say.note if say else None, absent=None if say else absent)
    given = given_for(study, request.data)
    for name, error in absent.items():
        if name in given or not isinstance(error, NotFoundError):
            raise error
    return make_plan(study, found, runs=request.runs, only=request.only)


def states_of(plan: Runs) -> dict[str, tuple[State, RunStatus]]:
    """Return the state and the status of every run of a plan, by name."""
    statuses = {spec.run: status_of(plan.folder_of(spec)) for spec in plan.runs}
    runs = [{"run": s.run, "needs": {r: n.model_dump() for r, n in s.needs.items()}} for s in plan.runs]
    states = with_needs(runs, statuses)
    return {name: (states[name], status) for name, status in statuses.items()}


def execute(plan: StudyPlan, watch: Watch, *, parallel: int | Literal["auto"] = 1, budget: float | None = None) -> bool:
    """Record the plan and run it here, for at most `budget` seconds; return whether it was stopped."""
    with stopping(plan.folder) as stop, listening(stop, watch), limited(stop, watch, budget):
        run_here(plan, stop, watch, parallel, begin=lambda: record(plan))
        return stop.asked


def unfinished(plan: StudyPlan, stopped: bool) -> MedvqError | None:
    """Return the error that says why runs of a plan are not done, None if all are.

    Args:
        plan: the plan, after `execute`.
        stopped: what `execute` returned.
    """
    states = {name: state for name, (state, _) in states_of(plan).items()}
    left = {state for state in states.values() if state != "done"}
    bad = sum(state in ("failed", "blocked") for state in states.values())
    if not left:
        return None
    if stopped or (not bad and "stopped" in left):
        saved = any(list(plan.folder_of(s).checkpoints.glob("step-*")) for s in plan.runs if states[s.run] != "done")
        kept = "with a checkpoint" if saved else "before there was a checkpoint"
        return StoppedError(f"stopped {kept}", hint="the same command goes on")
    return RunsFailedError(f"{bad} of {len(states)} runs did not finish", hint=f"medvq status {plan.study.name}")


@contextmanager
def listening(stop: Stop, watch: Watch) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGUSR1 into a stop request; a second Ctrl-C raises KeyboardInterrupt.

    Python lets only the main thread handle signals; in any other thread they keep their meaning.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not stop.asked:  # batch scripts repeat the signal
            watch.note(
                f"{signal.Signals(number).name}: writing a checkpoint and stopping; press Ctrl-C again to stop at once"
            )
        stop.ask()

    before = {number: signal.signal(number, ask) for number in GRACE_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
