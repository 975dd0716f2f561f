"""The state of a run, derived from the files in its folder."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from medvq.files import read_json
from medvq.runs import events
from medvq.runs.cost import DeviceHours, device_hours
from medvq.runs.folder import RunFolder
from medvq.runs.owner import Busy, holder_of

State = Literal["planned", "queued", "running", "stopped", "pruned", "done", "failed", "blocked"]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """State and progress of one run."""

    state: State
    attempts: int
    """Number of attempts so far."""
    metrics: dict[str, float]
    """Metrics of the result; before there is one, those of the last epoch."""
    epoch: int | None
    """The last finished epoch, counted from 1."""
    holder: Busy | None
    """The live process that works on the run."""
    failure: dict[str, Any] | None
    """The last failure of a failed run, `{error, traceback, log}`."""
    reason: str | None
    """Why a listener stopped the last attempt; None if it ended otherwise."""
    asked: bool
    """Whether the last attempt ended because it was asked to stop."""
    progress: dict[str, Any] | None
    """Content of progress.json of a running attempt."""
    work: DeviceHours | None
    """Device hours so far."""


def status_of(folder: RunFolder) -> RunStatus:
    """Return the state of one run, without regard to the runs that it needs."""
    result = read_json(folder.result)
    log = events.read(folder.events, glance=True)
    attempts = max((int(e.get("attempt", 0)) for e in log), default=0)
    done = events.epochs(log)
    holder = None if result else holder_of(folder.owner)
    ends = [e for e in log if e["event"] in ("attempt", "failed", "stopped")]
    failure = ends[-1] if ends and ends[-1]["event"] == "failed" else None
    state: State = "planned"
    if result:
        state = "done"
    elif holder:
        state = "running"
    elif failure:
        state = "failed"
    elif attempts:
        state = "stopped"
    return RunStatus(
        state=state,
        attempts=attempts,
        metrics=result["metrics"] if result else (done[-1].get("metrics", {}) if done else {}),
        epoch=done[-1]["epoch"] if done else None,
        holder=holder,
        failure=failure if state == "failed" else None,
        reason=ends[-1].get("reason") if state == "stopped" and "listener" in ends[-1] else None,
        asked=state == "stopped" and ends[-1]["event"] == "stopped",
        progress=read_json(folder.progress) if holder else None,
        work=device_hours(log, time.time() if holder else None),
    )


def without_holder(status: RunStatus) -> RunStatus:
    """Return the state of a run whose holder is known to be dead although its last heartbeat is recent. Pure."""
    state: State = "stopped" if status.attempts else "planned"
    return replace(status, state=state, holder=None, progress=None)


def with_needs(runs: list[dict[str, Any]], states: dict[str, RunStatus]) -> dict[str, State]:
    """Return the states by run name; an open run is blocked if a run that it needs has failed or is blocked.

    Args:
        runs: the runs of a plan, `{run, needs, …}`, in topological order.
        states: state of each run by name, without regard to its needs.
    """
    found: dict[str, State] = {}
    for run in runs:
        state = states[run["run"]].state
        bad = any(found.get(n["run"]) in ("failed", "blocked") for n in run["needs"].values())
        found[run["run"]] = "blocked" if bad and state in ("planned", "stopped") else state
    return found
