"""`medvq doctor`: check what is installed and whether it will work; each problem comes with its fix."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from medvq.errors import MedvqError
from medvq.extras import EXTRAS, install_command, is_installed
from medvq.launch.slurm.checkup import checkup, shared_folder
from medvq.processes import usable_cores

PACKAGES = ("torch", "pyarrow")
"""Packages that medvq cannot do without and whose version matters."""
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Names of optional packages that differ from the name of their module."""
SHM = 10**9
"""Bytes of /dev/shm; with less, workers that read images may run out of shared memory."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check."""

    level: Literal["ok", "warn", "fail"]
    what: str
    mend: str = ""
    """What to do about it."""


def examine(profile: str | None, runs: Path) -> list[Check]:
    """Check this machine and, if a profile is given, its cluster."""
    found = [*_packages(), *_machine(), *_folder(runs)]
    if profile is not None:
        found += [Check(level=level, what=what, mend=mend) for level, what, mend in checkup(profile, runs)]
    return found


def _packages() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check(level="ok", what=f"Python {version}")
    for name in PACKAGES:
        try:
            yield Check(level="ok", what=f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            yield Check(level="fail", what=f"{name} is not installed", mend=f"pip install -c constraints.txt {name}")
    for module in EXTRAS:
        name = DISTRIBUTIONS.get(module, module)
        if is_installed(module):
            yield Check(level="ok", what=f"{name} {metadata.version(name)}")
        else:
            yield Check(level="warn", what=f"{name} is not installed", mend=install_command(module))


def _machine() -> Iterator[Check]:
    import torch

    cores = usable_cores()
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        yield Check(level="ok", what=f"{torch.cuda.device_count()} GPUs ({', '.join(sorted(names))}), {cores} cores")
    elif torch.version.cuda and shutil.which("nvidia-smi"):
        mend = "the driver is older than this torch needs; install the build that fits it"
        yield Check(level="warn", what=f"torch finds no GPU; {cores} cores", mend=mend)
    else:
        yield Check(level="ok", what=f"no GPU; {cores} cores")
    yield _try("a folder for Ray's sockets", _short_temp)
    if Path("/dev/shm").is_dir():
        free = shutil.disk_usage("/dev/shm").free
        level: Literal["ok", "warn"] = "ok" if free > SHM else "warn"
        mend = "" if free > SHM else "give the container more, such as --shm-size=4g"
        yield Check(level=level, what=f"/dev/shm has {free / 1e9:.1f} GB free", mend=mend)


def _short_temp() -> str:
    from medvq.workers.ray_group import short_temp

    return f"temporary files go to {short_temp()} (TMPDIR would be {tempfile.gettempdir()})"


def _folder(runs: Path) -> Iterator[Check]:
    yield _try("the runs folder", lambda: shared_folder(runs))


def _try(what: str, check: Callable[[], str]) -> Check:
    try:
        return Check(level="ok", what=check())
    except MedvqError as e:
        return Check(level="fail", what=f"{what}: {e.error}", mend=e.hint or "")
