"""Device time that a run has used, and how much of it was lost to failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KEPT = ("checkpoint", "stopped", "done")
"""Events after which the work done so far cannot be lost."""


@dataclass(frozen=True, kw_only=True)
class DeviceHours:
    """Device hours: the time of each device, summed over devices."""

    device: str
    """`gpu` or `cpu`; hours of CPUs are hours of cores."""
    productive: float
    """Hours of work that was kept."""
    lost: float
    """Hours of work after the last checkpoint of attempts that failed; this work had to be repeated."""
    hosts: tuple[str, ...]
    """Hosts of the last attempt."""


def device_hours(events: list[dict[str, Any]], now: float | None) -> DeviceHours | None:
    """Return the device hours of all attempts of a run; None if there was no attempt.

    Args:
        events: the events of the run, oldest first.
        now: the current time, in seconds since 1970, if the last attempt is still running; else None.
    """
    device, hosts = "cpu", ()
    productive = lost = 0.0
    begun = False
    width = start = kept = last = 0.0
    for event in [*events, {"event": "end", "time": 0.0}]:
        if event["event"] in ("attempt", "end"):
            if begun and event["event"] == "end" and now is not None:
                kept = last = now
            productive += width * max(kept - start, 0)
            lost += width * max(last - max(kept, start), 0)
        if event["event"] == "attempt":
            begun = True
            start = kept = last = float(event["time"])
            on_gpu = str(event.get("device", "")).startswith("cuda")
            device = "gpu" if on_gpu else "cpu"
            width = float(event.get("workers", 1)) * (1 if on_gpu else float(event.get("threads", 1)))
            hosts = tuple(event.get("hosts") or [event.get("host", "")])
        elif event["event"] in KEPT:
            kept = last = float(event["time"])
        elif event["event"] in ("epoch", "failed"):
            last = float(event["time"])
    if not begun:
        return None
    return DeviceHours(device=device, productive=productive / 3600, lost=lost / 3600, hosts=hosts)
