"""What a run has cost: time on GPUs or cores that went into it, and time that was lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KEPT = ("checkpoint", "stopped", "done")
"""Events up to which nothing is lost any more."""


@dataclass(frozen=True, kw_only=True)
class DeviceHours:
    """Hours of one device times the number of devices."""

    device: str
    """gpu, or cpu: then the hours are those of cores."""
    productive: float
    lost: float
    """Done after the last checkpoint of an attempt that broke down, and done again."""
    hosts: tuple[str, ...]
    """Where the last attempt ran."""


def device_hours(events: list[dict[str, Any]], now: float | None) -> DeviceHours | None:
    """Sum over attempts; None where there was none.

    Args:
        events: the run's events.
        now: the time (seconds since 1970), while the last attempt goes on; else None.
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
