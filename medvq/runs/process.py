"""Which process is which, across reboots, containers and reused process ids."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that can be told from every other one, now and later."""

    host: str
    boot: str
    """The kernel's id of this boot."""
    space: str
    """The process-id namespace."""
    pid: int
    start: str
    """Clock ticks from boot to the start of the process."""

    @classmethod
    def current(cls) -> Process:
        """The process that asks."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), boot=_boot(), space=_space(), pid=pid, start=_start(pid) or "")

    @classmethod
    def of(cls, record: dict[str, Any]) -> Process:
        """The process written down by `record()`."""
        return cls(**{k: record[k] for k in ("host", "boot", "space", "pid", "start")})

    @staticmethod
    def is_running(pid: int, start: str) -> bool:
        """Whether the process of this machine with that id and start time still runs."""
        return _start(pid) == start

    def record(self) -> dict[str, Any]:
        """The process as JSON data."""
        return asdict(self)

    def alive(self) -> bool | None:
        """Whether it still runs; None where only another machine could say."""
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
    """Start time of a live process; None once it is gone or a zombie."""
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
