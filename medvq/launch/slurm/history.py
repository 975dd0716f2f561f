"""What earlier attempts say about the next one: whether it is worth it, and where not to try it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

GIVE_UP, ENDED_WELL = 3, 4
"""Exit codes of `again` when the job is not to come back, as where `again` itself cannot start, and when its run is
done all the same."""
FRUITLESS = 2
"""So many ends in a row without progress are enough."""
Events = Sequence[dict[str, Any]]


def suspects(histories: Sequence[Events]) -> tuple[str, ...]:
    """Hosts where an attempt broke down and none has got further since."""
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
    """Why a start of a run's job should not be; None where it should.

    Args:
        history: the run's events.
        restart: which start it is, from 0: how often SLURM has started the job again by then.
        requeues: how often it may.
    """
    if restart > requeues:
        return f"the profile allows to start it again {requeues} times (`requeues`), and this is number {restart}"
    ends = fruitless_ends(history)
    if len(ends) < FRUITLESS:
        return None
    last = ends[-1]
    if last["event"] == "crashed":
        return f"it broke down {len(ends)} times in a row without getting further; last: {last['error']}"
    return f"it was stopped by the time limit {len(ends)} times in a row at step {last['step']}; give it more time"


def fruitless_ends(history: Events) -> list[dict[str, Any]]:
    """The last ends of attempts that got no further than the one before: break-downs, and stops at the time limit."""
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
