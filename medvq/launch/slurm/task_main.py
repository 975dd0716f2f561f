"""The main program of a SLURM job of `medvq submit`: do one run, or resume it. Exit codes are those of `medvq`."""

from __future__ import annotations

import sys
from pathlib import Path

from medvq.errors import MedvqError
from medvq.launch.here import run_here
from medvq.launch.plan import Runs
from medvq.launch.slurm.history import reason_to_give_up
from medvq.launch.start import listening
from medvq.launch.watch import Watch, stopping
from medvq.runs import events
from medvq.runs.folder import RunFolder
from medvq.runs.owner import Busy, Term, claim
from medvq.runs.process import Process
from medvq.runs.spec import read_spec
from medvq.runs.state import RunStatus
from medvq.runs.submission import Submission, load_submission

DONE, BROKE, FAILED, STOPPED, LEFT = 0, 9, 6, 7, 10
"""Exit codes. BROKE: the attempt ended without a result, for instance because a process died; the next attempt may
succeed. LEFT: the file `stop` of a user ended the run, so that the job must not be requeued."""


def main() -> int:
    """Do task `argv[2]` of the submission in the file `argv[1]`."""
    submission, index = load_submission(Path(sys.argv[1])), int(sys.argv[2])
    folder = folder_of(submission, index)
    try:
        return _do(submission, folder)
    except MedvqError as e:
        _say(str(e))
        if folder.result.exists():
            return DONE
        if e.code in (2, 3, 5):
            write_down(folder, "failed", error=str(e), traceback=[], log=str(submission.log(index)))
            return e.code
        return BROKE


def _do(submission: Submission, folder: RunFolder) -> int:
    if folder.result.exists():
        return DONE
    spec, term, before = read_spec(folder), Term.here(), events.read(folder.events)
    reason = reason_to_give_up(
        before,
        restart=term.restart if term else 0,
        requeues=submission.content["slurm"]["requeues"],
    )
    if reason:
        _say(reason)
        write_down(folder, "failed", error=reason, traceback=[], log="")
        return FAILED
    watch = Watch(active=lambda *_: None, ended=lambda _, status: _say(_words(status)), note=_say)
    runs = Runs(runs=(spec,), folder=folder.path.parent)
    with stopping(folder.path) as stop, listening(stop, watch):
        status = run_here(runs, stop, watch)[spec.run]
        if status.state == "done":
            return DONE
        if status.state == "failed":
            return FAILED
        if stop.asked:
            return STOPPED
        new = events.read(folder.events)[len(before) :]
        return LEFT if new and new[-1]["event"] == "stopped" else BROKE


def folder_of(submission: Submission, index: int) -> RunFolder:
    """Return the folder of the run of a task."""
    return RunFolder(submission.path.parent.parent / submission.tasks[index])


def write_down(folder: RunFolder, event: str, **facts: object) -> None:
    """Append an event about the last attempt, unless a newer attempt has started."""
    owner = claim(folder.owner, Process.current(), Term.here(), look_back=True)
    if not isinstance(owner, Busy):
        events.append(folder.events, owner, event, **facts)
        owner.release()


def _words(status: RunStatus) -> str:
    if status.failure:
        return "\n".join(["failed", status.failure["error"], *status.failure["traceback"]])
    return status.state


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
