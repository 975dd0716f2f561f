"""Where the driver and the agents of one start of a SLURM job find each other: a folder that all its nodes see."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from medvq.files import make_folder

PLACE = ".ray"


def meet(shared: Path, job: str) -> Path:
    """A new meeting folder; what killed starts of the same SLURM job left goes."""
    leave(shared, job)
    return Path(tempfile.mkdtemp(prefix=f"{job}-", dir=make_folder(shared / PLACE))).resolve()


def leave(shared: Path, job: str) -> None:
    """Remove every meeting folder of a SLURM job."""
    for meeting in (shared / PLACE).glob(f"{job}-*"):
        shutil.rmtree(meeting, ignore_errors=True)
    with contextlib.suppress(OSError):  # it is not there, or another job is meeting in it
        (shared / PLACE).rmdir()
