"""What `medvq submit` does about each run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from medvq.launch.plan import Runs
from medvq.launch.slurm import query
from medvq.launch.slurm.arrays import Array, Wanted, arrays
from medvq.runs.state import RunStatus, State

Action = Literal["done", "new", "goes on", "is tried again", "queued", "running", "failed", "blocked"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be sent."""

    actions: dict[str, Action]
    """What happens to each run, by its name."""
    arrays: list[Array]
    """Job arrays to send, in order."""
    queued: dict[str, str]
    """SLURM's ids of runs that are queued or running already."""


def decide(
    plan: Runs,
    found: Mapping[str, tuple[State, RunStatus]],
    queued: Mapping[str, query.Queued],
    *,
    retry: bool,
    limit: int,
) -> Decision:
    """Decide what happens to each run.

    Args:
        plan: the runs, in topological order.
        found: their states, from their folders.
        queued: the tasks of these runs that SLURM has and that have not ended, by run.
        retry: whether failed runs are tried again.
        limit: the cluster's MaxArraySize.
    """
    actions: dict[str, Action] = {}
    wanted: list[Wanted] = []
    for spec in plan.runs:
        state, status = found[spec.run]
        needs = [n.run for n in spec.needs.values()]
        if state == "done":
            actions[spec.run] = "done"
        elif spec.run in queued:
            actions[spec.run] = "running" if queued[spec.run].state == "RUNNING" else "queued"
        elif status.state == "running":
            actions[spec.run] = "running"
        elif status.state == "failed" and not retry:
            actions[spec.run] = "failed"
        elif any(actions[n] in ("failed", "blocked") for n in needs):
            actions[spec.run] = "blocked"
        else:
            resumed: dict[State, Action] = {"stopped": "goes on", "failed": "is tried again"}
            actions[spec.run] = resumed.get(status.state, "new")
            open_needs = tuple(n for n in needs if actions[n] != "done")
            wanted.append(Wanted(run=spec.run, job=spec.job, needs=open_needs))
    in_slurm = {w.run for w in wanted} | set(queued)
    sent: list[Wanted] = []
    for w in wanted:
        if all(n in in_slurm for n in w.needs):
            sent.append(w)
        else:  # a run that it needs is done outside of SLURM, which therefore cannot wait for it
            actions[w.run] = "blocked"
            in_slurm.discard(w.run)
    return Decision(actions=actions, arrays=arrays(sent, limit), queued={run: q.id for run, q in queued.items()})


def summary(plan: Runs, decision: Decision) -> dict[str, Any]:
    """Return `{study, runs: [{run, job, values, action, folder}], arrays}` for programs."""
    return {
        "study": plan.folder.name,
        "runs": [
            {
                "run": s.run,
                "job": s.job,
                "values": s.values,
                "action": decision.actions[s.run],
                "folder": str(plan.folder / s.run),
            }
            for s in plan.runs
        ],
        "arrays": [{**asdict(a), "tasks": {str(i): r for i, r in a.tasks.items()}} for a in decision.arrays],
    }
