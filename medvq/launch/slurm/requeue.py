"""After an attempt that did not come to its end: write down how it ended, and say whether to start the job again.

The batch script calls it with the submission, the index, the exit code and the seconds that the job ran, and requeues
the job if this exits with 0; it ends well itself if this exits with ENDED_WELL. Nodes to stay away from go to stdout.
"""

from __future__ import annotations

import sys
from pathlib import Path

from medvq.config.profile import Slurm
from medvq.config.units import seconds
from medvq.launch.slurm import memory
from medvq.launch.slurm.allocation import allocation
from medvq.launch.slurm.history import ENDED_WELL, GIVE_UP, reason_to_give_up, suspects
from medvq.launch.slurm.nodes import avoidable, excluded
from medvq.launch.slurm.rendezvous import leave
from medvq.launch.slurm.task_main import LEFT, STOPPED, folder_of, write_down
from medvq.runs import events
from medvq.runs.folder import RunFolder
from medvq.runs.submission import last_lines, load_submission

EARLY = 60.0
OUT_OF_MEMORY = "out of memory: the SLURM job's memory of {} GB was used up; give `memory_gb` more or `batch_size` less"


def main() -> int:
    """Write down and decide."""
    submission, index = load_submission(Path(sys.argv[1])), int(sys.argv[2])
    code, ran = int(sys.argv[3]), float(sys.argv[4])
    folder, given, slurm = folder_of(submission, index), allocation(), submission.content["slurm"]
    assert given is not None, "runs in a batch script"
    leave(folder.path.parent, given.job)
    if folder.result.exists():
        return ENDED_WELL
    if code == LEFT:
        return GIVE_UP
    log = submission.log(index)
    if code != STOPPED and memory.kills(given.job):
        return give_up(folder, OUT_OF_MEMORY.format(slurm["memory_gb"]), log)
    if code != STOPPED:
        # A signal ended the driver, which runs on the first node; else any node may be to blame.
        how, hosts = (f"signal {code - 128}", given.nodes[:1]) if code > 128 else (f"exit {code}", given.nodes)
        error = f"it broke down with {how} on {', '.join(hosts)}"
        write_down(folder, "crashed", error=error, hosts=list(hosts))
    elif time_is_up(ran, seconds(slurm["time"]) - seconds(slurm["grace"])):
        write_down(folder, "limit")
    history = events.read(folder.events)
    reason = reason_to_give_up(history, restart=given.restart + 1, requeues=slurm["requeues"])
    if reason:
        return give_up(folder, reason, log)
    profile = Slurm.model_validate(slurm)
    bad = avoidable(profile, suspects([history]))
    print(",".join(excluded(profile, bad) if bad else ()))
    return 0


def give_up(folder: RunFolder, reason: str, log: Path) -> int:
    """Write the run down as failed."""
    print(reason, file=sys.stderr, flush=True)
    write_down(folder, "failed", error=reason, traceback=last_lines(log), log=str(log))
    return GIVE_UP


def time_is_up(ran: float, signal_after: float) -> bool:
    """Whether a stop after so many seconds was for the time limit; SLURM's signal may come a minute early."""
    return ran > signal_after - max(EARLY, 0.2 * signal_after)


if __name__ == "__main__":
    sys.exit(main())
