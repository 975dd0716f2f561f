"""What SLURM says of the runs of a plan, with at most two questions to it whatever the number of runs."""

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
"""States of SLURM jobs that run, for all that a run can tell."""
FAILED = frozenset(("FAILED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "NODE_FAIL", "TIMEOUT"))
SILENT = "SLURM does not say"
HELD = "held: "
"""Begins the reason of what may not go on without a person."""
NEVER = "DependencyNeverSatisfied"
LITTLE, MUCH = 0.5, 0.95
"""Shares of what was asked for, below and above which a profile deserves a hint."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A run on the cluster."""

    submission: Submission
    index: int
    queued: Queued | None = None
    """What squeue says."""
    account: Account | None = None
    """What sacct says."""
    unsure: bool = False
    """Whether somebody else sent it, and SLURM says nothing of it."""

    @property
    def id(self) -> str:
        """SLURM's id of the task."""
        if self.queued:
            return self.queued.id
        return self.submission.id_of(self.index) if self.submission.job else "?"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The runs of one study or of several on the cluster."""

    places: dict[Path, Place] = field(default_factory=dict)
    """By run folder."""
    unknown: tuple[str, ...] = ()
    """What could not be asked, and why."""
    silent: bool = False
    """Whether squeue gave no answer: what was sent may still wait or run."""


def look(collected: Sequence[Collected]) -> Cluster:
    """Ask SLURM once for all: squeue where runs are open, sacct where runs have left the queue."""
    places: dict[Path, Place] = {}
    for study in collected:
        last = latest(submissions(study.folder))
        for entry in study.entries:
            if entry.run in last:
                submission, index = last[entry.run]
                places[entry.folder.path] = Place(submission=submission, index=index)
    if not places:
        return Cluster()
    unknown: list[str] = []
    done = {e.folder.path for c in collected for e in c.entries if e.state == "done"}
    if set(places) - done:
        try:
            queue = ask((place.submission for place in places.values()), query.GLANCE)
            places = {p: replace(o, queued=queue.find(o.submission, o.index)) for p, o in places.items()}
        except MedvqError as e:
            words = "what waits, runs or has ended is not known; what was sent and not ended counts as queued"
            return Cluster(places=places, unknown=(f"squeue: {e.error}; {words}",), silent=True)
    ended = {p.submission.job for path, p in places.items() if path in done or not (p.queued and p.queued.active)}
    if ended - {None}:
        try:
            known = query.accounts(sorted(job for job in ended if job), query.GLANCE)
            places = {p: replace(place, account=known.get(place.id)) for p, place in places.items()}
        except MedvqError as e:
            unknown.append(f"sacct: {e.error}; how SLURM jobs ended, and what they used, is not known")
    hidden = {p for p, o in places.items() if p not in done and not (o.queued or o.submission.mine)}
    hidden -= {p for p in hidden if has_ended(places[p].account)}
    if hidden:
        places |= {p: replace(places[p], unsure=True) for p in hidden}
        who = ", ".join(sorted({places[p].submission.sender_name for p in hidden}))
        unknown.append(f"{len(hidden)} runs were sent by {who}; SLURM does not tell whether they have ended")
    return Cluster(places=places, unknown=tuple(unknown))


def settled(entry: RunEntry, place: Place | None, silent: bool) -> tuple[State, str]:
    """A run's state when SLURM has its word, and why, in a few words. Pure.

    Args:
        entry: what the run folder says.
        place: what SLURM says; None where the run was never sent.
        silent: squeue does not answer.
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
        found = "stopped"  # a run that was done since its folder was read is seen at the next look
    if found in ("running", "failed"):
        return found, ""
    if said is None:
        return found, "SLURM no longer knows it" if place.submission.job else "SLURM does not have it"
    if said in FAILED and found == "planned":
        return "failed", f"SLURM job {place.id}: {said.lower().replace('_', ' ')}"
    return found, f"SLURM job {place.id}: {said.lower().replace('_', ' ')}"


def _why(queued: Queued) -> str:
    reasons = {
        "Dependency": "waits for what it needs",
        "BeginTime": "starts again in a moment",
        "Priority": "others come first",
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


def use(places: Iterable[Place]) -> list[str]:
    """What ended SLURM jobs used of what they asked for, with a hint where that was too much or too little."""
    lines: list[str] = []
    by_profile: dict[str, list[tuple[Account, int]]] = {}
    for place in places:
        if place.account and place.account.elapsed > 60:
            nodes = int(place.submission.content["slurm"]["nodes"])
            by_profile.setdefault(place.submission.content["profile"], []).append((place.account, nodes))
    for profile, found in by_profile.items():
        cpu = sum(a.cpu_seconds for a, _ in found) / max(sum(a.elapsed * a.cpus for a, _ in found), 1)
        memory = max(((a.memory or 0) * nodes / a.memory_asked for a, nodes in found if a.memory_asked), default=None)
        gpu = [a.gpu_use for a, _ in found if a.gpu_use is not None]
        words = [f"CPU {cpu:.0%}"]
        hints = ["fewer `cpus_per_node` would do"] if cpu < LITTLE else []
        if memory is not None:
            words.append(f"memory {memory:.0%} at most")
            hints += ["less `memory_gb` would do"] if memory < LITTLE else []
            hints += ["more `memory_gb` would be safer"] if memory > MUCH else []
        if gpu:
            words.append(f"GPU {sum(gpu) / len(gpu):.0f} %")
            hints += ["more workers for reading (`resources.loader_processes`)"] if sum(gpu) / len(gpu) < 50 else []
        hint = f": {', '.join(hints)}" if hints else ""
        lines.append(f"profile {profile} used {', '.join(words)} of what it asked for{hint}")
    return lines
