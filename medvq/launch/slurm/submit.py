"""`medvq submit`: send what is missing, so that no kill of this process makes SLURM do a run twice.

First the intent is written, then `sbatch` runs, then its answer is written. A repeat finds intents without an answer
and asks SLURM for the job by its unique comment; `sbatch` holds the study's lock until it has ended itself.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from medvq.config.profile import Profile, Slurm
from medvq.errors import MedvqError, MissingError, UsageError
from medvq.launch.packages import check_packages
from medvq.launch.plan import Runs
from medvq.launch.slurm import query
from medvq.launch.slurm.arrays import Array, Wanted, arrays, dependency
from medvq.launch.slurm.history import suspects
from medvq.launch.slurm.locate_jobs import JobStates, ask, locate_jobs
from medvq.launch.slurm.nodes import avoidable
from medvq.launch.slurm.script import Sent, sbatch_text
from medvq.launch.slurm.snapshot import contents, place_of, snapshot
from medvq.launch.start import states_of
from medvq.runs import events
from medvq.runs.folder import RunFolder
from medvq.runs.state import RunStatus, State, status_of, without_holder
from medvq.runs.submission import Submission, latest, locked, new_submission, submissions

Action = Literal["done", "new", "goes on", "is tried again", "queued", "running", "failed", "blocked"]
TASKS_ASSUMED = 1001
"""SLURM's own default of MaxArraySize."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What would be sent."""

    actions: dict[str, Action]
    """By run."""
    arrays: list[Array]
    queued: dict[str, str]
    """SLURM's ids of runs that are queued already."""


def slurm_of(profile: Profile) -> Slurm:
    """What the profile asks SLURM for.

    Raises:
        UsageError: it is not a profile of a cluster.
    """
    if profile.slurm is None:
        raise UsageError(
            f"profile {profile.name} is this machine",
            hint="`medvq run` works here; `submit` needs a profile of a cluster",
        )
    return profile.slurm


def decide(
    plan: Runs,
    found: Mapping[str, tuple[State, RunStatus]],
    queued: Mapping[str, query.Queued],
    *,
    retry: bool,
    limit: int,
) -> Decision:
    """What to do about each run. Pure.

    Args:
        plan: the runs, needs first.
        found: their states, from their folders.
        queued: what SLURM has of them and has not ended, by run.
        retry: whether to try again what failed.
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
            again: dict[State, Action] = {"stopped": "goes on", "failed": "is tried again"}
            actions[spec.run] = again.get(status.state, "new")
            open_needs = tuple(n for n in needs if actions[n] != "done")
            wanted.append(Wanted(run=spec.run, job=spec.job, needs=open_needs))
    waits = {w.run for w in wanted} | set(queued)
    sent: list[Wanted] = []
    for w in wanted:
        if all(n in waits for n in w.needs):
            sent.append(w)
        else:  # what it needs is being done by a terminal: nothing that SLURM could wait for
            actions[w.run] = "blocked"
            waits.discard(w.run)
    return Decision(actions=actions, arrays=arrays(sent, limit), queued={run: q.id for run, q in queued.items()})


def survey(plan: Runs, *, retry: bool, offline: bool) -> Decision:
    """What to do about each run now; asks SLURM only where runs were sent before and are not done."""
    found = states_of(plan)
    if all(state == "done" for state, _ in found.values()):
        return Decision(actions=dict.fromkeys(found, "done"), arrays=[], queued={})
    there, limit = JobStates(), TASKS_ASSUMED
    try:
        sent = submissions(plan.folder)
        there = locate_jobs(sent, [r for r, (s, _) in found.items() if s != "done"])
        found = {run: _with_slurms_word(plan, run, *state, sent, there.queued) for run, state in found.items()}
        limit = TASKS_ASSUMED if offline else int(query.settings().get("MaxArraySize", TASKS_ASSUMED))
    except (MissingError, query.SilentError):
        if not offline:
            raise
    seen = decide(plan, found, there.queued, retry=retry, limit=limit)
    unsure = [there.unsure[run] for a in seen.arrays for run in a.tasks.values() if run in there.unsure]
    if unsure and not offline:
        who, file = unsure[0].sender_name, unsure[0].path
        raise query.SilentError(
            f"{len(unsure)} runs were sent by {who}, and SLURM does not tell whether they have ended; nothing is sent",
            where=str(file),
            hint=f'ask {who} to repeat the command; if they have surely ended, set "job": false in that file',
        )
    return seen


def _with_slurms_word(
    plan: Runs, run: str, state: State, status: RunStatus, sent: list[Submission], queued: Mapping[str, query.Queued]
) -> tuple[State, RunStatus]:
    """The state of a run whose holder SLURM no longer has, such as after SIGKILL: read again, as it may be done."""
    last = latest(sent).get(run)
    if status.state != "running" or run in queued or last is None or not last[0].held(status.holder):
        return state, status
    now = status_of(RunFolder(plan.folder / run))
    now = without_holder(now) if now.state == "running" else now
    return now.state, now


def texts(plan: Runs, profile: Profile, seen: Decision) -> list[str]:
    """The batch scripts that would be sent; `<1>` stands for the id that SLURM gives to the first, `medvq:key` for the
    comment that it is found by.
    """
    ids = dict(seen.queued)
    jobs: list[str] = []
    out = []
    number = max((s.number for s in submissions(plan.folder)), default=0)
    code = place_of(plan.folder.parent, contents(_own(plan)))
    for i, array in enumerate(seen.arrays):
        waits, bad = dependency(array, jobs, ids), _bad(plan, array, slurm_of(profile))
        sent = _sent(plan, array, number + 1 + i, "medvq:key", waits, code, bad)
        jobs.append(f"<{i + 1}>")
        ids |= {run: f"{jobs[-1]}_{index}" for index, run in array.tasks.items()}
        out.append(sbatch_text(slurm_of(profile), sent))
    return out


def send(plan: Runs, profile: Profile, *, retry: bool, say: Say) -> Decision:
    """Send what is missing.

    Raises:
        MissingError: there is no SLURM here, or a package that a run needs is not installed.
        SilentError: SLURM does not answer; the same command goes on from there.
        MedvqError: SLURM refuses.
    """
    if slurm_of(profile).python is None:  # the nodes use this Python and its packages
        check_packages(plan.runs)
    with locked(plan.folder, say) as lock:
        settle(plan.folder, say)
        seen = survey(plan, retry=retry, offline=False)
        if not seen.arrays:
            return seen
        code, slurm = snapshot(plan.folder.parent, _own(plan)), slurm_of(profile)
        ids = dict(seen.queued)
        jobs: list[str] = []
        for array in seen.arrays:
            intent = new_submission(
                plan.folder,
                {
                    "key": f"medvq:{secrets.token_hex(8)}",
                    "profile": profile.name,
                    "slurm": slurm.model_dump(mode="json"),
                    "code": str(code),
                    "time": round(time.time(), 3),
                    "tasks": {str(i): run for i, run in array.tasks.items()},
                    "after": list(array.after),
                },
            )
            waits, bad = dependency(array, jobs, ids), _bad(plan, array, slurm)
            text = sbatch_text(slurm, _sent(plan, array, intent.number, intent.key, waits, code, bad))
            intent.path.with_suffix(".sbatch").write_text(text)
            job = _sbatch(intent, lock)
            ids |= {run: f"{job}_{index}" for index, run in array.tasks.items()}
            jobs.append(job)
        return seen


def _own(plan: Runs) -> set[str]:
    """Import paths of the user's own code in a plan."""
    return {path for spec in plan.runs for path in (*spec.code, *spec.listeners)}


def _bad(plan: Runs, array: Array, slurm: Slurm) -> tuple[str, ...]:
    """Nodes that runs of an array broke down on, as many as they can stay away from."""
    histories = [events.read(plan.folder / run / "events.jsonl") for run in array.tasks.values()]
    return avoidable(slurm, suspects(histories))


def _sent(
    plan: Runs, array: Array, number: int, key: str, waits: str | None, code: Path, exclude: Sequence[str]
) -> Sent:
    return Sent(
        name=f"{plan.folder.name}.{array.job}",
        key=key,
        number=number,
        tasks=tuple(array.tasks),
        dependency=waits,
        exclude=tuple(exclude),
        record=(plan.folder / "submissions" / f"{number}.json").resolve(),
        code=code.resolve(),
        python=sys.executable,
    )


def _sbatch(intent: Submission, lock: int) -> str:
    """Hand an intent to SLURM once, and write down what came of it.

    Raises:
        SilentError: it may have arrived or not: `settle` finds out.
        MedvqError: it has surely not been taken.
    """
    script = intent.path.with_suffix(".sbatch")
    try:
        said = query.call("sbatch", str(script), keep_open=[lock])
        job = query.job_id(said)
    except MedvqError as e:
        words, silent = e.error, isinstance(e, query.SilentError)
        if isinstance(e, MissingError) or (not silent and query.REFUSED.search(words)):
            intent.settle(False)
            raise MedvqError(f"SLURM refuses: {words}", where=str(script)) from e
        raise query.SilentError(
            f"it is not known whether SLURM took this: {words}",
            where=str(script),
            hint="the same command asks SLURM for it first, and sends nothing twice",
        ) from e
    intent.settle(job)
    return job


def settle(study_folder: Path, say: Say) -> None:
    """Find out what became of this user's intents whose `submit` was killed or got no answer; call it with the lock.

    Raises:
        SilentError: SLURM does not say.
    """
    waiting = [s for s in submissions(study_folder) if s.open and s.mine]
    if not waiting:
        return
    queue = ask(waiting)
    for intent in waiting:
        tasks = [q for i in intent.tasks if (q := queue.find(intent, i))]
        job = tasks[0].id.partition("_")[0] if tasks else intent.job or False
        say(
            f"submission {intent.number} was interrupted; SLURM {f'has it as job {job}' if job else 'does not have it'}"
        )
        intent.settle(job)


def summary(plan: Runs, seen: Decision) -> dict[str, Any]:
    """`{study, runs: [{run, job, values, action, folder}], arrays}` for programs."""
    return {
        "study": plan.folder.name,
        "runs": [
            {
                "run": s.run,
                "job": s.job,
                "values": s.values,
                "action": seen.actions[s.run],
                "folder": str(plan.folder / s.run),
            }
            for s in plan.runs
        ],
        "arrays": [{**asdict(a), "tasks": {str(i): r for i, r in a.tasks.items()}} for a in seen.arrays],
    }
