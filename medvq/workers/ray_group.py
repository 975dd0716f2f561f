"""Ray Train worker groups on this machine, started by a separate server process (`medvq.workers.ray_server`)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvq.errors import MissingError
from medvq.runs.process import Process
from medvq.train.run import WorkItem
from medvq.workers.group import Group, GroupSpec, WorkersError
from medvq.workers.ray_server import ENVIRONMENT

PREFIX = "medvq-"
"""Beginning of the names of our folders for temporary files."""
LONGEST = 12
"""Longest path of the temporary folder: of the 107 bytes of a socket's path, Ray needs 63 and our folder 32."""
GONE = 60.0
"""Seconds to wait until the server has ended by itself."""


def end(process: subprocess.Popen[Any], within: float) -> None:
    """End a process that stops when its stdin is closed; kill it if it has not ended after `within` seconds."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class LocalRay:
    """A Ray instance on this machine only, which listens on loopback and has its own token and folder.

    The first group starts it, and later groups use it again. When a group ends with an error, Ray is ended too, because
    a dead worker may leave it in an unknown state.
    """

    def __init__(self, workers: int, gpus: int) -> None:
        self.workers, self.gpus = workers, gpus
        self.environment: dict[str, str] = {}
        """Environment variables of the server in addition to ours."""
        self._server: subprocess.Popen[str] | None = None
        self._folder: Path | None = None

    def start(self, items: Sequence[WorkItem], spec: GroupSpec, stop_file: Path) -> Group:
        """Start doing the runs in a group of Ray Train workers, and return at once."""
        request = {"items": [asdict(item) for item in items], "stop": str(stop_file), **asdict(spec)}
        return Group(lambda: self._do(request))

    def close(self) -> None:
        """End Ray and remove its folder."""
        server, folder = self._server, self._folder
        self._server = self._folder = None
        if server is not None:
            end(server, GONE)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _do(self, request: dict[str, Any]) -> None:
        server = self._server or self._open()
        assert server.stdin is not None
        assert server.stdout is not None
        answer: dict[str, Any] = {"error": "Ray ended"}
        with contextlib.suppress(OSError, ValueError):
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            answer = json.loads(server.stdout.readline())
        if answer["error"] is not None:
            log = tail(self._folder / "server.log") if self._folder else ""
            self.close()
            raise WorkersError("; ".join(filter(None, [str(answer["error"]), log])))

    def _open(self) -> subprocess.Popen[str]:
        sweep()
        process = Process.current()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{process.pid}-{process.start}-", dir=short_temp()))
        environment = {
            **os.environ,
            **ENVIRONMENT,
            "RAY_AUTH_TOKEN_PATH": str(self._folder / "token"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # torch creates a folder for compiled kernels, shared by all users, at the first use of torch.compile.
            "TORCHINDUCTOR_CACHE_DIR": str(self._folder / "inductor"),
            **self.environment,
        }
        environment.pop("RAY_ADDRESS", None)
        with open(self._folder / "server.log", "w") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "medvq.workers.ray_server", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C reaches only the owner, which sends a stop request
                env=environment,
            )
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(self._cluster()) + "\n")
        self._server.stdin.flush()
        return self._server

    def _cluster(self) -> dict[str, Any]:
        """Return the first message to the server: which Ray to start or join."""
        return {"workers": self.workers, "gpus": self.gpus}


def short_temp() -> Path:
    """Return a folder for temporary files whose path is short enough for Ray's sockets.

    Raises:
        MissingError: there is no such folder.
    """
    for path in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/dev/shm")):
        if len(str(path)) <= LONGEST and os.access(path, os.W_OK):
            return path
    raise MissingError(
        f"the path of the folder for temporary files has more than {LONGEST} characters: too long for Ray's sockets",
        where=tempfile.gettempdir(),
        hint="set TMPDIR to a short path, or train with --workers 0",
    )


def sweep() -> None:
    """Remove the temporary folders of processes that were killed before they could remove them."""
    for path in short_temp().glob(f"{PREFIX}*-*-*"):
        _, pid, start, *_ = path.name.split("-")
        try:
            gone = path.stat().st_uid == os.getuid() and not Process.is_running(int(pid), start)
        except (OSError, ValueError):
            continue
        if gone:
            shutil.rmtree(path, ignore_errors=True)


def tail(log: Path) -> str:
    """Return the last line of a log that is not empty, or an empty string."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
