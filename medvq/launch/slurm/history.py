"""What the attempts of a run say about the next one: whether to make it, and which nodes to avoid. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

GIVE_UP, ENDED_WELL = 3, 4
"""Exit codes of `medvq.launch.slurm.requeue`: do not requeue the job; the run is done in spite of everything."""
FRUITLESS = 2
"""Number of ends in a row without progress after which a run has failed."""
Events = Sequence[dict[str, Any]]


def suspects(histories: Sequence[Events]) -> tuple[str, ...]:
    """Return hosts on which an attempt broke down and no later attempt made progress."""
    bad: dict[str, None] = {}
    for history in histories:
        hosts: list[str] = []
        for event in history:
            if event["event"] == "attempt":
                hosts = event.get("hosts") or []
            elif event["event"] == "crashed":
                bad |= dict.fromkeys(event.get("hosts") or hosts)
            elif event["event"] in ("epoch", "checkpoint", "done"):
                bad = {h: None for h in bad if h not in hosts}
    return tuple(bad)


def reason_to_give_up(history: Events, *, restart: int, requeues: int) -> str | None:
    """Return why the job of a run must not start; None if it may.

    Args:
        history: the events of the run.
        restart: how often SLURM has restarted the job, 0 for its first start.
        requeues: how often it may.
    """
    if restart > requeues:
        return f"the profile allows {requeues} restarts (`requeues`), and this is number {restart}"
    ends = fruitless_ends(history)
    if len(ends) < FRUITLESS:
        return None
    last = ends[-1]
    if last["event"] == "crashed":
        return f"it broke down {len(ends)} times in a row without progress; the last time: {last['error']}"
    return f"it was stopped by the time limit {len(ends)} times in a row at step {last['step']}; give it more time"


def fruitless_ends(history: Events) -> list[dict[str, Any]]:
    """Return the last crashes and stops at the time limit that came without progress since the attempt before."""
    furthest, start = -1, -1
    ends: list[dict[str, Any]] = []
    for event in history:
        step = int(event.get("step", -1))
        if event["event"] == "attempt":
            start = furthest
        elif event["event"] in ("checkpoint", "epoch", "stopped") and step > furthest:
            furthest, ends = step, []
        elif event["event"] == "crashed" or (event["event"] == "limit" and furthest <= start):
            ends.append({"step": max(furthest, 0), **event})
        elif event["event"] == "failed":
            ends = []
    return ends
