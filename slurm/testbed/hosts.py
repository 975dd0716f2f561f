"""The hosts of the testbed: namespaces that are connected by a bridge in the controller's namespace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from config import CONTROLLER, address

HERE = Path(__file__).resolve().parent
BRIDGE = "br0"


class TestbedError(Exception):
    """A part of the testbed does not start or stop."""


def wait_until(what: Callable[[], bool], seconds: float, failure: str) -> None:
    """Poll until `what` returns something true.

    Raises:
        TestbedError: it did not within the time.
    """
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TestbedError(failure)
        time.sleep(0.05)


def quiet(*command: str | Path) -> bool:
    """Run a command, and return whether it succeeded within 20 s."""
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def started(pid: int) -> str | None:
    """Return the start time of a process in clock ticks; None if it has ended or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True)
class Host:
    """A host: the namespaces of one process. The file `pid` has the process id and the start time of that process."""

    name: str
    state: Path

    @property
    def folder(self) -> Path:
        """The folder with the host's files."""
        return self.state / "hosts" / self.name

    @property
    def pid(self) -> int | None:
        """Process id of the host's first process; None if the host is down."""
        try:
            pid, start = (self.folder / "pid").read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if started(int(pid)) == start else None

    def inside(self, *command: str | Path, root: Path | None = None) -> list[str]:
        """Return the command line that runs a command on this host."""
        pid = self.pid
        if pid is None:
            raise TestbedError(f"{self.name} is down")
        spaces = ("--net", "--uts", "--ipc", "--mount", "--pid")
        folder = [f"--wd={root}"] if root else []
        return ["nsenter", "-t", str(pid), *spaces, *folder, "--", *map(str, command)]

    def run(self, *command: str | Path) -> bool:
        """Run a short command on the host, and return whether it succeeded."""
        return self.pid is not None and quiet(*self.inside(*command))

    def start(self) -> None:
        """Start the host with its network, unless it is up."""
        if self.pid is not None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        log = open(self.state / "log" / f"{self.name}.log", "a")  # noqa: SIM115 - the child keeps it
        outer = subprocess.Popen(
            ["unshare", "--net", "--uts", "--ipc", "--mount", "--propagation", "private", "--pid", "--fork",
             "--kill-child=KILL", "--mount-proc", "bash", HERE / "host.sh", self.name, self.state],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
        )  # fmt: skip
        wait_until(lambda: (self.folder / "ready").exists(), 10, f"{self.name} does not start; see {log.name}")
        (pid,) = (int(p) for p in Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split())
        (self.folder / "pid").write_text(f"{pid} {started(pid)}")
        self._join()

    def cut(self) -> None:
        """Kill every process on the host at once, as a power cut does."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: started(pid) is None, 20, f"{self.name} does not stop")
        (self.folder / "pid").unlink(missing_ok=True)

    def share(self, folders: Sequence[Path]) -> None:
        """Mount folders of the machine in the host's private /tmp."""
        for path in folders:
            if self.name == CONTROLLER or not path.is_relative_to("/tmp") or self.run("mountpoint", "-q", path):
                continue
            outer = self.folder / "outer" / path.relative_to("/tmp")
            if not (self.run("mkdir", "-p", path) and self.run("mount", "--bind", outer, path)):
                raise TestbedError(f"cannot share {path} with {self.name}")

    def daemon(self, command: Sequence[str | Path], pidfile: Path, log: Path, environment: dict[str, str]) -> bool:
        """Start a daemon that writes its process id, unless it runs; return whether it was started."""
        if self.runs(pidfile):
            return False
        pidfile.unlink(missing_ok=True)
        with open(log, "a") as out:
            subprocess.Popen(
                self.inside("setsid", *command), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **environment},
                start_new_session=True, cwd="/",
            )  # fmt: skip
        return True

    def runs(self, pidfile: Path) -> bool:
        """Return whether the daemon runs whose process id, in the host's own namespace, is in a file."""
        try:
            pid = int(pidfile.read_text())
        except (OSError, ValueError):
            return False
        return self.run("sh", "-c", f"grep -q '^State:.[^ZX]' /proc/{pid}/status")

    def _join(self) -> None:
        """Connect the host to the bridge, without touching the machine's own network."""
        if self.name == CONTROLLER:
            steps = [
                "ip link set lo up",
                f"ip link add {BRIDGE} type bridge",
                f"ip addr add {address(CONTROLLER)}/24 dev {BRIDGE}",
                f"ip link set {BRIDGE} up",
            ]
        else:
            controller = Host(CONTROLLER, self.state)
            controller.run("ip", "link", "del", f"v{self.name}")
            ends = ("ip", "link", "add", "eth0", "netns", str(self.pid), "type", "veth",
                    "peer", "name", f"v{self.name}", "netns", str(controller.pid))  # fmt: skip
            plugged = quiet(*ends) and controller.run("ip", "link", "set", f"v{self.name}", "master", BRIDGE, "up")
            if not plugged:
                raise TestbedError(f"cannot connect {self.name}")
            steps = ["ip link set lo up", f"ip addr add {address(self.name)}/24 dev eth0", "ip link set eth0 up"]
        for step in steps:
            if not self.run(*step.split()):
                raise TestbedError(f"{self.name}: {step} failed")
