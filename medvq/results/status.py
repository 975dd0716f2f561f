"""The runs of a plan, for a person and for programs."""

from __future__ import annotations

from typing import Any

from medvq.results.collect import Collected


def facts(collected: Collected) -> dict[str, Any]:
    """`{study, plan, runs: [{run, job, values, state, folder, attempts, metrics, …}]}`."""
    return {
        "study": collected.study,
        "plan": collected.plan.number,
        "runs": [
            {
                "run": e.run,
                "job": e.job,
                "values": e.values,
                "state": e.state,
                "folder": str(e.folder.path),
                "attempts": e.status.attempts,
                "metrics": e.status.metrics,
                "epoch": e.status.epoch,
                "progress": e.status.progress,
                "failure": e.status.failure,
            }
            for e in collected.entries
        ],
    }


def text(found: dict[str, Any]) -> str:
    """A line per run; what failed says why."""
    counts: dict[str, int] = {}
    for run in found["runs"]:
        counts[run["state"]] = counts.get(run["state"], 0) + 1
    summary = ", ".join(f"{n} {state}" for state, n in counts.items())
    lines = [f"{found['study']}, plan {found['plan']}: {summary}"]
    width = max((len(r["run"]) for r in found["runs"]), default=0)
    for run in found["runs"]:
        lines.append(f"  {run['run']:<{width}}  {run['state']:<8} {_words(run)}".rstrip())
        if run["failure"]:
            failure = run["failure"]
            lines += [f"      {line}" for line in [failure["error"], *failure["traceback"], f"log: {failure['log']}"]]
    return "\n".join(lines)


def _words(run: dict[str, Any]) -> str:
    parts = []
    progress = run["progress"]
    if progress:
        parts.append(f"epoch {progress['epoch']}/{progress['epochs']}, {progress['images_per_s']:.0f} images/s")
    elif run["state"] == "stopped" and run["epoch"]:
        parts.append(f"after epoch {run['epoch']}")
    shown = [k for k in run["metrics"] if k.startswith("test/")] or [k for k in run["metrics"] if k.startswith("val/")]
    parts += [f"{k} {run['metrics'][k]:.4g}" for k in shown[:3]]
    if run["attempts"] > 1:
        parts.append(f"{run['attempts']} attempts")
    return ", ".join(parts)
