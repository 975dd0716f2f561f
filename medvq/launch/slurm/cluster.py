"""What SLURM says of the runs of a plan; at most one call of squeue and two of sacct, whatever the number of runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medvq.errors import MedvqError
from medvq.launch.slurm import query
from medvq.launch.slurm.locate_jobs import ask, has_ended
from medvq.launch.slurm.query import Account, Queued
from medvq.runs.collect import Collected, RunEntry
from medvq.runs.state import State
from medvq.runs.submission import Submission, latest, submissions

WORKS = frozenset(("RUNNING", "CONFIGURING", "COMPLETING", "SIGNALING", "RESIZING", "STAGE_OUT"))
"""States of SLURM jobs whose run may be working."""
FAILED = frozenset(("FAILED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "NODE_FAIL", "TIMEOUT"))
SILENT = "SLURM does not say"
HELD = "held: "
"""Start of the reason of a job that only a person can let go on."""
NEVER = "DependencyNeverSatisfied"
LITTLE, MUCH = 0.5, 0.95
"""Used shares of the requested cores or memory; below LITTLE and above MUCH, `status` gives a hint."""


@dataclass(frozen=True, kw_only=True)
class ClusterRun:
    """A run that was sent to the cluster."""

    submission: Submission
    index: int
    queued: Queued | None = None
    """The task as squeue shows it."""
    account: Account | None = None
    """The task as sacct shows it."""
    unsure: bool = False
    """Whether another user sent it, and SLURM does not show whether it has ended."""

    @property
    def id(self) -> str:
        """SLURM's id of the task; `?` if it is not known."""
        if self.queued:
            return self.queued.id
        return self.submission.id_of(self.index) if self.submission.job else "?"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The runs of one study or of several, as SLURM shows them."""

    runs: dict[Path, ClusterRun] = field(default_factory=dict)
    """Runs by folder."""
    unknown: tuple[str, ...] = ()
    """What is not known, and why."""
    silent: bool = False
    """Whether squeue did not answer, so that what was sent may still wait or run."""


def ask_slurm(collected: Sequence[Collected]) -> Cluster:
    """Ask SLURM once for all runs: squeue if some are not done, sacct for those that have left the queue."""
    runs: dict[Path, ClusterRun] = {}
    for study in collected:
        last = latest(submissions(study.folder))
        for entry in study.entries:
            if entry.run in last:
                submission, index = last[entry.run]
                runs[entry.folder.path] = ClusterRun(submission=submission, index=index)
    if not runs:
        return Cluster()
    unknown: list[str] = []
    done = {e.folder.path for c in collected for e in c.entries if e.state == "done"}
    if set(runs) - done:
        try:
            queue = ask((run.submission for run in runs.values()), query.GLANCE)
            runs = {path: replace(run, queued=queue.find(run.submission, run.index)) for path, run in runs.items()}
        except MedvqError as e:
            words = (
                "it is not known what waits, runs or has ended; runs that were sent and have not ended count as queued"
            )
            return Cluster(runs=runs, unknown=(f"squeue: {e.error}; {words}",), silent=True)
    ended = {run.submission.job for path, run in runs.items() if path in done or not (run.queued and run.queued.active)}
    if ended - {None}:
        try:
            known = query.accounts(sorted(job for job in ended if job), query.GLANCE)
            runs = {path: replace(run, account=known.get(run.id)) for path, run in runs.items()}
        except MedvqError as e:
            unknown.append(f"sacct: {e.error}; how SLURM jobs ended, and what they used, is not known")
    hidden = {path for path, run in runs.items() if path not in done and not (run.queued or run.submission.mine)}
    hidden -= {path for path in hidden if has_ended(runs[path].account)}
    if hidden:
        runs |= {path: replace(runs[path], unsure=True) for path in hidden}
        who = ", ".join(sorted({runs[path].submission.sender_name for path in hidden}))
        unknown.append(f"{len(hidden)} runs were sent by {who}; SLURM does not tell whether they have ended")
    return Cluster(runs=runs, unknown=tuple(unknown))


def state_with_slurm(entry: RunEntry, place: ClusterRun | None, silent: bool) -> tuple[State, str]:
    """Return the state of a run by its folder and by SLURM, and the reason in a few words. Pure.

    Args:
        entry: the run, from its folder.
        place: the run, as SLURM shows it; None if it was never sent.
        silent: whether squeue did not answer.
    """
    if place is None or entry.state == "done":
        return entry.state, ""
    queued = place.queued
    if queued and queued.active:
        if queued.state in WORKS:
            return "running", "" if entry.state == "running" else "starting"
        return ("blocked", "what it needs failed") if queued.reason == NEVER else ("queued", _why(queued))
    if silent or place.unsure:
        sent_again = entry.state == "failed" and place.submission.after(entry.status.failure)
        ended = entry.state in ("running", "failed") and not sent_again
        return (entry.state, "") if ended else ("queued", SILENT)
    said = queued.state if queued else place.account.state if place.account else None
    found: State = entry.state
    if found == "running" and place.submission.held(entry.status.holder) and said != "COMPLETED":
        found = "stopped"  # if it was done after its folder was read, the next `status` shows it
    if found in ("running", "failed"):
        return found, ""
    if said is None:
        return found, "SLURM no longer knows it" if place.submission.job else "SLURM does not have it"
    if said in FAILED and found == "planned":
        return "failed", f"SLURM job {place.id}: {said.lower().replace('_', ' ')}"
    return found, f"SLURM job {place.id}: {said.lower().replace('_', ' ')}"


def _why(queued: Queued) -> str:
    reasons = {
        "Dependency": "waits for runs that it needs",
        "BeginTime": "restarts in a moment",
        "Priority": "jobs of higher priority come first",
        "Resources": "waits for free nodes",
    }
    stay = {"JobHeldUser", "JobHeldAdmin", "launch failed requeued held"}
    if queued.state in ("REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD") or queued.reason in stay:
        return f"{HELD}{_state_and_reason(queued)}; `scontrol release {queued.id}` lets it go on"
    if queued.state in ("SUSPENDED", "STOPPED"):
        return HELD + _state_and_reason(queued)
    return reasons.get(queued.reason) or _state_and_reason(queued)


def _state_and_reason(queued: Queued) -> str:
    state = "" if queued.state == "PENDING" else queued.state.lower().replace("_", " ")
    return ", ".join(filter(None, [state, queued.reason if queued.reason != "None" else ""]))


def resource_use(runs: Iterable[ClusterRun]) -> list[str]:
    """Return, for each profile, which share of cores, memory and GPUs ended jobs used, with hints."""
    lines: list[str] = []
    by_profile: dict[str, list[tuple[Account, int]]] = {}
    for place in runs:
        if place.account and place.account.elapsed > 60:
            nodes = int(place.submission.content["slurm"]["nodes"])
            by_profile.setdefault(place.submission.content["profile"], []).append((place.account, nodes))
    for profile, found in by_profile.items():
        cpu = sum(a.cpu_seconds for a, _ in found) / max(sum(a.elapsed * a.cpus for a, _ in found), 1)
        memory = max(((a.memory or 0) * nodes / a.memory_asked for a, nodes in found if a.memory_asked), default=None)
        gpu = [a.gpu_use for a, _ in found if a.gpu_use is not None]
        words = [f"CPU {cpu:.0%}"]
        hints = ["fewer `cpus_per_node` are enough"] if cpu < LITTLE else []
        if memory is not None:
            words.append(f"memory {memory:.0%} at most")
            hints += ["less `memory_gb` is enough"] if memory < LITTLE else []
            hints += ["more `memory_gb` is safer"] if memory > MUCH else []
        if gpu:
            words.append(f"GPU {sum(gpu) / len(gpu):.0f} %")
            hints += ["more `resources.loader_processes` may feed it faster"] if sum(gpu) / len(gpu) < 50 else []
        hint = f": {', '.join(hints)}" if hints else ""
        lines.append(f"profile {profile} used {', '.join(words)} of what it asked for{hint}")
    return lines
