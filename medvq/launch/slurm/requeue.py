"""Decide whether a SLURM job is requeued after an attempt that has not finished its run.

The batch script calls this with the file of the submission, the array index, the exit code of the attempt and the
seconds that the job ran. How the attempt ended is written to the run's events. Exit codes: 0 means requeue the job,
ENDED_WELL means that the run is done, anything else means give up. Nodes to avoid are printed to stdout.
"""

from __future__ import annotations

import sys
from pathlib import Path

from medvq.config.profile import Slurm
from medvq.config.units import seconds
from medvq.launch.allocation.allocation import allocation
from medvq.launch.allocation.rendezvous import remove_rendezvous
from medvq.launch.slurm import memory
from medvq.launch.slurm.history import ENDED_WELL, GIVE_UP, reason_to_give_up, suspects
from medvq.launch.slurm.nodes import avoidable, excluded
from medvq.launch.slurm.task_main import LEFT, STOPPED, folder_of, write_down
from medvq.runs import events
from medvq.runs.folder import RunFolder
from medvq.runs.submission import last_lines, load_submission

EARLY = 60.0
"""Seconds by which SLURM's signal may come early."""
OUT_OF_MEMORY = "out of memory: the SLURM job's memory ({}) was used up; give `memory_gb` more or `batch_size` less"


def main() -> int:
    """Record how the attempt ended, and decide."""
    submission, index = load_submission(Path(sys.argv[1])), int(sys.argv[2])
    code, ran = int(sys.argv[3]), float(sys.argv[4])
    folder, given, slurm = folder_of(submission, index), allocation(), submission.content["slurm"]
    assert given is not None, "this is called by a batch script"
    remove_rendezvous(folder.path.parent, given.job)
    if folder.result.exists():
        return ENDED_WELL
    if code == LEFT:
        return GIVE_UP
    log = submission.log(index)
    if code != STOPPED and memory.kills(given.job):
        return give_up(folder, OUT_OF_MEMORY.format(Slurm.model_validate(slurm).memory_words), log)
    if code != STOPPED:
        # After a signal the driver was killed, which runs on the first node; else any node may have failed.
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
    """Record that the run has failed."""
    print(reason, file=sys.stderr, flush=True)
    write_down(folder, "failed", error=reason, traceback=last_lines(log), log=str(log))
    return GIVE_UP


def time_is_up(ran: float, signal_after: float) -> bool:
    """Return whether a stop was caused by the time limit; SLURM's signal may come up to a minute early.

    Args:
        ran: seconds that the job ran.
        signal_after: seconds after which SLURM sends its signal.
    """
    return ran > signal_after - max(EARLY, 0.2 * signal_after)


if __name__ == "__main__":
    sys.exit(main())
