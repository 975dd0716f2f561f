"""The rendezvous of a SLURM job: a folder on a shared disk in which the driver and the node agents find each other."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from medvq.files import make_folder

PLACE = ".ray"
"""Name of the folder in the shared one."""


def new_rendezvous(shared: Path, job: str) -> Path:
    """Make a folder for this start of a SLURM job, and remove those of earlier starts that were killed."""
    remove_rendezvous(shared, job)
    return Path(tempfile.mkdtemp(prefix=f"{job}-", dir=make_folder(shared / PLACE))).resolve()


def remove_rendezvous(shared: Path, job: str) -> None:
    """Remove every rendezvous folder of a SLURM job."""
    for folder in (shared / PLACE).glob(f"{job}-*"):
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # it does not exist, or another job uses it
        (shared / PLACE).rmdir()
