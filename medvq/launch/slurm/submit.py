"""`medvq submit`: send the runs that are missing. Sending is idempotent: a killed `submit` can be repeated.

The intent is written before `sbatch` is called, and the answer of `sbatch` after it. The next `submit` finds intents
without an answer, and asks SLURM for their job by its unique comment. A running `sbatch` holds the study's lock, so
that the next `submit` waits for it.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from medvq.config.profile import Profile, Slurm
from medvq.errors import MedvqError, MissingError, UsageError
from medvq.launch.packages import check_packages
from medvq.launch.plan import Runs
from medvq.launch.slurm import query
from medvq.launch.slurm.arrays import Array, dependency
from medvq.launch.slurm.decide import Decision, decide
from medvq.launch.slurm.history import suspects
from medvq.launch.slurm.locate_jobs import JobStates, ask, locate_jobs
from medvq.launch.slurm.nodes import avoidable
from medvq.launch.slurm.script import SbatchJob, sbatch_text
from medvq.launch.slurm.snapshot import contents, place_of, snapshot
from medvq.launch.start import states_of
from medvq.runs import events
from medvq.runs.folder import RunFolder
from medvq.runs.state import RunStatus, State, status_of, without_holder
from medvq.runs.submission import Submission, latest, locked, new_submission, submissions

TASKS_ASSUMED = 1001
"""SLURM's default of MaxArraySize, for the dry run."""
Say = Callable[[str], None]


def slurm_of(profile: Profile) -> Slurm:
    """Return what the profile asks SLURM for.

    Raises:
        UsageError: the profile is not one of a cluster.
    """
    if profile.slurm is None:
        raise UsageError(
            f"profile {profile.name} is this machine",
            hint="`medvq run` works here; `submit` needs a profile of a cluster",
        )
    return profile.slurm


def survey(plan: Runs, *, retry: bool, offline: bool) -> Decision:
    """Find out how the runs stand, and decide what happens to each.

    SLURM is asked only if some runs were sent before and are not done.

    Args:
        plan: the runs, in topological order.
        retry: whether failed runs are tried again.
        offline: whether to do without SLURM if it is not installed or does not answer.

    Raises:
        MissingError: there is no SLURM here. SilentError: SLURM does not say whether runs of another user have ended.
    """
    found = states_of(plan)
    if all(state == "done" for state, _ in found.values()):
        return Decision(actions=dict.fromkeys(found, "done"), arrays=[], queued={})
    known, limit = JobStates(), TASKS_ASSUMED
    try:
        sent = submissions(plan.folder)
        known = locate_jobs(sent, [r for r, (s, _) in found.items() if s != "done"])
        found = {run: _corrected_by_slurm(plan, run, *state, sent, known.queued) for run, state in found.items()}
        limit = TASKS_ASSUMED if offline else int(query.settings().get("MaxArraySize", TASKS_ASSUMED))
    except (MissingError, query.SilentError):
        if not offline:
            raise
    decision = decide(plan, found, known.queued, retry=retry, limit=limit)
    unsure = [known.unsure[run] for a in decision.arrays for run in a.tasks.values() if run in known.unsure]
    if unsure and not offline:
        who, file = unsure[0].sender_name, unsure[0].path
        raise query.SilentError(
            f"{len(unsure)} runs were sent by {who}, and SLURM does not tell whether they have ended; nothing is sent",
            where=str(file),
            hint=f'ask {who} to repeat the command; if they have surely ended, set "job": false in that file',
        )
    return decision


def _corrected_by_slurm(
    plan: Runs, run: str, state: State, status: RunStatus, sent: list[Submission], queued: Mapping[str, query.Queued]
) -> tuple[State, RunStatus]:
    """Return the state of a run. If its process is gone according to SLURM, as after SIGKILL, it is not running."""
    last = latest(sent).get(run)
    if status.state != "running" or run in queued or last is None or not last[0].held(status.holder):
        return state, status
    now = status_of(RunFolder(plan.folder / run))
    now = without_holder(now) if now.state == "running" else now
    return now.state, now


def scripts(plan: Runs, profile: Profile, decision: Decision) -> list[str]:
    """Return the batch scripts that would be sent.

    `<1>` stands for the id that SLURM will give to the first job, `medvq:key` for the unique comment of a job.
    """
    ids = dict(decision.queued)
    jobs: list[str] = []
    out = []
    number = max((s.number for s in submissions(plan.folder)), default=0)
    code = place_of(plan.folder.parent, contents(_own(plan)))
    for i, array in enumerate(decision.arrays):
        waits, bad = dependency(array, jobs, ids), _nodes_to_avoid(plan, array, slurm_of(profile))
        sent = _sbatch_job(plan, array, number + 1 + i, "medvq:key", waits, code, bad)
        jobs.append(f"<{i + 1}>")
        ids |= {run: f"{jobs[-1]}_{index}" for index, run in array.tasks.items()}
        out.append(sbatch_text(slurm_of(profile), sent))
    return out


def send(plan: Runs, profile: Profile, *, retry: bool, say: Say) -> Decision:
    """Send the runs that are missing, and return what was decided.

    Raises:
        MissingError: there is no SLURM here, or a package that a run needs is not installed.
        SilentError: SLURM does not answer; the same command goes on from there.
        MedvqError: SLURM refuses a job.
    """
    if slurm_of(profile).python is None:  # the nodes use this Python and its packages
        check_packages(plan.runs)
    with locked(plan.folder, say) as lock:
        settle(plan.folder, say)
        decision = survey(plan, retry=retry, offline=False)
        if not decision.arrays:
            return decision
        code, slurm = snapshot(plan.folder.parent, _own(plan)), slurm_of(profile)
        ids = dict(decision.queued)
        jobs: list[str] = []
        for array in decision.arrays:
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
            waits, bad = dependency(array, jobs, ids), _nodes_to_avoid(plan, array, slurm)
            text = sbatch_text(slurm, _sbatch_job(plan, array, intent.number, intent.key, waits, code, bad))
            intent.path.with_suffix(".sbatch").write_text(text)
            job = _call_sbatch(intent, lock)
            ids |= {run: f"{job}_{index}" for index, run in array.tasks.items()}
            jobs.append(job)
        return decision


def _own(plan: Runs) -> set[str]:
    """Return the import paths of the user's own code in a plan."""
    return {path for spec in plan.runs for path in (*spec.code, *spec.listeners)}


def _nodes_to_avoid(plan: Runs, array: Array, slurm: Slurm) -> tuple[str, ...]:
    """Return the nodes on which runs of an array broke down, at most as many as the runs can avoid."""
    histories = [events.read(plan.folder / run / "events.jsonl") for run in array.tasks.values()]
    return avoidable(slurm, suspects(histories))


def _sbatch_job(
    plan: Runs, array: Array, number: int, key: str, waits: str | None, code: Path, exclude: Sequence[str]
) -> SbatchJob:
    return SbatchJob(
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


def _call_sbatch(intent: Submission, lock: int) -> str:
    """Call `sbatch` for an intent, and write down the id of the job.

    Raises:
        SilentError: it is not known whether SLURM took the job; `settle` finds out.
        MedvqError: SLURM did not take the job.
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
    """Find out whether SLURM has the jobs of intents without an answer. The caller holds the study's lock.

    Only intents of this user are looked at.

    Raises:
        SilentError: SLURM does not answer.
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
