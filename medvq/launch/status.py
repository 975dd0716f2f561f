"""The status of the runs of a plan, as text and as data: from their folders, and from the cluster."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from medvq.launch.slurm.cluster import SILENT, Cluster, ClusterRun, resource_use, state_with_slurm
from medvq.runs.collect import Collected, RunEntry
from medvq.runs.commands import announced_runs
from medvq.runs.submission import last_lines

SHOWN = 3
"""Number of metrics of a run that the table shows."""


def facts(collected: Collected, cluster: Cluster | None = None) -> dict[str, Any]:
    """Return `{study, plan, runs: [{run, job, values, state, folder, attempts, metrics, …}], notes}`.

    Args:
        collected: the runs, from their folders.
        cluster: what SLURM says of them; None if it was not asked.
    """
    seen = cluster or Cluster()
    found: list[dict[str, Any]] = []
    states: dict[str, str] = {}
    here = announced_runs(collected.folder)
    for entry, record in zip(collected.entries, collected.plan.runs, strict=True):
        place = seen.runs.get(entry.folder.path)
        state, why = state_with_slurm(entry, place, seen.silent)
        needs = [n["run"] for n in record["needs"].values()]
        unsure = state in ("planned", "stopped") or why == SILENT
        if unsure and any(states.get(n) in ("failed", "blocked") for n in needs):
            state, why = "blocked", "what it needs failed"
        elif state in ("planned", "stopped") and entry.run in here:
            state, why = "queued", f"its turn comes in {here[entry.run]}"
        states[entry.run] = state
        found.append(_run(entry, place, state, why))
    places = [p for e in collected.entries if (p := seen.runs.get(e.folder.path))]
    return {
        "study": collected.study,
        "plan": collected.plan.number,
        "runs": found,
        "notes": [*seen.unknown, *resource_use(places)],
    }


def _run(entry: RunEntry, place: ClusterRun | None, state: str, why: str) -> dict[str, Any]:
    status = entry.status
    failure = status.failure if state == "failed" else None  # in other states the run was sent again since
    if state == "failed" and failure is None and place is not None:
        log = str(place.submission.log(place.index))
        failure = {"error": why, "traceback": last_lines(Path(log)), "log": log}
    queued = place.queued if place else None
    work = status.work
    return {
        "run": entry.run,
        "job": entry.job,
        "values": entry.values,
        "state": state,
        "folder": str(entry.folder.path),
        "attempts": status.attempts,
        "metrics": status.metrics,
        "epoch": status.epoch,
        "progress": status.progress if state == "running" else None,
        "failure": failure,
        "reason": why,
        "slurm": place.id if place else None,
        "hosts": [queued.nodes] if queued and queued.nodes else list(work.hosts) if work else [],
        "hours": {"device": work.device, "productive": work.productive, "lost": work.lost} if work else None,
    }


def text(found: dict[str, Any], states: tuple[str, ...] = ()) -> str:
    """Return a table of the runs; a failed run is followed by the reason.

    Args:
        found: the result of `facts`.
        states: show only runs in these states; empty shows all.
    """
    counts = Counter(r["state"] for r in found["runs"])
    summary = ", ".join(f"{n} {state}" for state, n in counts.items())
    lines = [f"{found['study']}, plan {found['plan']}: {summary}{_hours(found['runs'])}"]
    shown = [r for r in found["runs"] if not states or r["state"] in states]
    rows = [("run", "state", "where", "attempts", "epoch", "images/s", "left", "hours", ""), *(_row(r) for r in shown)]
    columns = [i for i in range(9) if any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in columns}
    for number, row in enumerate(rows if shown else ()):
        lines.append("  " + "  ".join(f"{row[i]:<{widths[i]}}" for i in columns).rstrip())
        failure = shown[number - 1]["failure"] if number else None
        if failure:
            more = [failure["error"], *failure["traceback"], f"log: {failure['log']}"]
            lines += [f"      {line}" for line in "\n".join(more).splitlines()]
    lines += [f"  {note}" for note in found["notes"]]
    return "\n".join(lines)


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    progress, hours = run["progress"], run["hours"]
    training = progress and progress["phase"] == "training"
    epoch = f"{progress['epoch']}/{progress['epochs']}" if progress else str(run["epoch"] or "")
    speed, left = (progress["images_per_s"], progress["seconds_left"]) if training else (None, None)
    cost = f"{hours['productive'] + hours['lost']:.1f}" if hours and hours["productive"] + hours["lost"] > 0.05 else ""
    return (
        run["run"],
        run["state"],
        ",".join(run["hosts"]) if run["state"] != "done" else "",
        str(run["attempts"]) if run["attempts"] > 1 else "",
        epoch if run["state"] != "done" else "",
        f"{speed:.0f}" if speed is not None else "",
        clock(left) if left is not None else "",
        cost,
        ", ".join(filter(None, [_metrics(run["metrics"]), run["reason"] if run["state"] != "failed" else ""])),
    )


def _metrics(metrics: dict[str, float]) -> str:
    shown = [k for k in metrics if k.startswith("test/")] or [k for k in metrics if k.startswith("val/")]
    return ", ".join(f"{k} {metrics[k]:.4g}" for k in shown[:SHOWN])


def _hours(runs: list[dict[str, Any]]) -> str:
    """Return the GPU hours and core hours of all runs, in words."""
    words = []
    for device, name in (("gpu", "GPU hours"), ("cpu", "core hours")):
        costs = [r["hours"] for r in runs if r["hours"] and r["hours"]["device"] == device]
        productive, lost = sum(c["productive"] for c in costs), sum(c["lost"] for c in costs)
        if productive + lost > 0.05:
            words.append(f"{productive:.1f} {name}" + (f" and {lost:.1f} lost" if lost > 0.05 else ""))
    return f"; {', '.join(words)}" if words else ""


def clock(left: float) -> str:
    """Format seconds as `1:11`, `2:03:04` or `1.5 d`."""
    return (
        time.strftime("%-M:%S" if left < 3600 else "%-H:%M:%S", time.gmtime(left))
        if left < 86400
        else (f"{left / 86400:.1f} d")
    )
