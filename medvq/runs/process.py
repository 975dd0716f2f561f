"""Identity of a process that is unique across machines, reboots, containers and reused process ids."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Process:
    """The identity of one process."""

    host: str
    """Name of the machine."""
    boot: str
    """The kernel's boot id."""
    space: str
    """The process-id namespace, which differs between containers."""
    pid: int
    """The process id."""
    start: str
    """Start time of the process, in clock ticks since boot."""

    @classmethod
    def current(cls) -> Process:
        """Return the identity of the calling process."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), boot=_boot(), space=_space(), pid=pid, start=_start(pid) or "")

    @classmethod
    def of(cls, record: dict[str, Any]) -> Process:
        """Return the identity that `record()` saved."""
        return cls(**{k: record[k] for k in ("host", "boot", "space", "pid", "start")})

    @staticmethod
    def is_running(pid: int, start: str) -> bool:
        """Return whether a process of this machine with this id and start time is running."""
        return _start(pid) == start

    def record(self) -> dict[str, Any]:
        """Return the identity as JSON data."""
        return asdict(self)

    def alive(self) -> bool | None:
        """Return whether the process is running; None if this machine or container cannot see it."""
        if (self.boot, self.space) != (_boot(), _space()):
            return None
        return self.is_running(self.pid, self.start)


def _boot() -> str:
    return _text("/proc/sys/kernel/random/boot_id") or socket.gethostname()


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start(pid: int) -> str | None:
    """Return the start time of a running process; None if it has ended or is a zombie."""
    stat = _text(f"/proc/{pid}/stat")
    if stat is None:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
