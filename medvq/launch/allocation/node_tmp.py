"""The temporary folder of Ray on a node: only its user can open it, and it is removed even if its job was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

PREFIX = "mq"
NAME = re.compile(PREFIX + r"\d+[a-z0-9_]{5}")
"""A SLURM job's id and five random letters."""
YOUNG = 60.0
"""Seconds; a younger folder without a lock may just be in the making."""


def make(folder: Path) -> int:
    """Make the folder, and lock it. It counts as in use as long as the returned file descriptor is open."""
    folder.mkdir(mode=0o700)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def ray_folder(folder: Path) -> Path:
    """Return the folder inside that Ray gets. Ray lets everybody into its folder; the one around it stays closed."""
    return folder / "r"


def remove_from_now_on(folder: Path) -> None:
    """Remove the folder now, and keep removing what Ray still puts there, in a thread.

    A running Ray goes on, because its files and connections are open. So it can end normally, and if SIGKILL comes
    first, nothing is left on the node.
    """

    def remove() -> None:
        while True:
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.2)

    threading.Thread(target=remove, daemon=True).start()


def sweep(parent: Path) -> None:
    """Remove processes and files that earlier jobs of this user left because they were killed or the power was cut."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            stat = folder.stat()
            mine = NAME.fullmatch(folder.name) and stat.st_uid == os.getuid()
            if mine and time.time() - stat.st_mtime > YOUNG and not _in_use(folder):
                _end_processes(str(ray_folder(folder)))
                shutil.rmtree(folder, ignore_errors=True)


def _in_use(folder: Path) -> bool:
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _end_processes(ray_temp: str) -> None:
    """Kill the processes of a Ray; all of them have its folder in their environment."""
    setting = f"RAY_TMPDIR={ray_temp}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if setting in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)
