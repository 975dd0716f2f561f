"""Runs Ray on one node of a SLURM job as long as stdin is open; then it removes all processes and files of Ray.

`srun` starts one agent on every node and connects its own stdin to all of them. So they end with the driver, even if
it is killed. `ray stop` is not used, because it would also stop the Rays of other jobs.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from medvq.files import read_json, write_json
from medvq.launch.allocation import network, node_tmp
from medvq.workers.ray_server import ENVIRONMENT, NODE_LABEL

SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl: orphaned processes of Ray become children of this process."""
HEAD_WITHIN = 300.0
"""Seconds for Ray's head to appear."""
OBJECTS = (10**8, 10**9)
"""Smallest and largest size of Ray's object store in bytes; training hardly uses it."""


def main() -> int:
    """Run the agent of this node; `request.json` in the rendezvous folder `argv[1]` says how."""
    rendezvous = Path(sys.argv[1])
    request = read_json(rendezvous / "request.json")
    name, temp = os.environ["SLURMD_NODENAME"], Path(request["temp"])
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    _listen(temp, request["driver"] if name == request["nodes"][0] else None)
    node_tmp.sweep(temp.parent)
    lock = node_tmp.make(temp)
    try:
        return _serve(rendezvous, request, name)
    finally:
        _kill_descendants()
        shutil.rmtree(temp, ignore_errors=True)
        os.close(lock)


def _listen(temp: Path, driver: int | None) -> None:
    """Pass signals on to the driver, which decides when to stop.

    Signals that SLURM sends to the batch script reach the driver anyway; those sent to all steps, as by
    `scancel --signal`, reach this process only.

    Args:
        temp: the temporary folder on this node. On SIGTERM it is removed at once, because SIGKILL may follow early.
        driver: process id of the driver; None if it is on another node.
    """

    def tell(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            node_tmp.remove_from_now_on(temp)
        if driver is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(driver, number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, tell)


def _serve(rendezvous: Path, request: dict[str, Any], name: str) -> int:
    """Start Ray, and wait until stdin is closed or Ray ends."""
    (rendezvous / f"{name}.here").touch()
    peers = [n for n in request["nodes"] if n != name]
    address = network.ALONE
    if request["interface"]:
        address = network.address_of(request["interface"])
    elif peers:
        address = network.address_towards(peers[0])
    if name == request["nodes"][0]:
        ray = _start_head(rendezvous, request, name, address)
    else:
        head = _wait_for_head(rendezvous)
        if head is None:
            return 0
        command = ["--address", f"{head['address']}:{head['port']}", *_share(request, name, address)]
        ray = _ray(command, request, rendezvous, name, address)
    while ray.poll() is None and not _closed(0.5):
        pass
    return 1 if ray.poll() is not None else 0


def _start_head(rendezvous: Path, request: dict[str, Any], name: str, address: str) -> subprocess.Popen[bytes]:
    (port, client) = network.free_ports(address, 2)
    folder = node_tmp.ray_folder(Path(request["temp"]))
    # The allocation is all there is: no dashboard, and no monitor, which would ask a cloud for more nodes.
    small = ["--include-dashboard=false", "--no-monitor"]
    where = [f"--port={port}", f"--ray-client-server-port={client}", f"--temp-dir={folder}"]
    command = ["--head", *small, *where, *_share(request, name, address)]
    ray = _ray(command, request, rendezvous, name, address)
    while ray.poll() is None and not network.answers(address, port):
        if _closed(0.1):
            return ray
    write_json(rendezvous / "head.json", {"address": address, "port": port})
    return ray


def _wait_for_head(rendezvous: Path) -> dict[str, Any] | None:
    end = time.monotonic() + HEAD_WITHIN
    while time.monotonic() < end and not _closed(0.1):
        head: dict[str, Any] | None = read_json(rendezvous / "head.json")
        if head:
            return head
    return None


def _share(request: dict[str, Any], name: str, address: str) -> list[str]:
    """Return options for Ray: the resources of this node that it may use, and ports that are free."""
    agent, grpc, environments, metrics = network.free_ports(address, 4)
    memory = request["memory"] or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    objects = max(OBJECTS[0], min(OBJECTS[1], memory // 10))
    return [
        f"--node-ip-address={address}",
        f"--num-cpus={request['cpus']}",
        f"--num-gpus={request['gpus']}",
        f"--memory={max(memory - objects, objects)}",
        f"--object-store-memory={objects}",
        f"--resources={json.dumps({NODE_LABEL + name: 1})}",
        f"--dashboard-agent-listen-port={agent}",
        f"--dashboard-agent-grpc-port={grpc}",
        f"--runtime-env-agent-port={environments}",
        f"--metrics-export-port={metrics}",
        "--node-manager-port=0",
        "--object-manager-port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--include-log-monitor=false",  # workers write their own logs
        "--disable-usage-stats",
        "--block",
    ]


def _ray(
    command: list[str], request: dict[str, Any], rendezvous: Path, name: str, address: str
) -> subprocess.Popen[bytes]:
    temp = Path(request["temp"])
    interface = network.interface_of(address) or "lo"
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "RAY_AUTH_TOKEN_PATH": str(rendezvous / "token"),
        "RAY_TMPDIR": str(node_tmp.ray_folder(temp)),
        # Ray would watch the memory of the whole node; the limit of the job is enforced by SLURM.
        "RAY_memory_monitor_refresh_ms": "0",
        "GLOO_SOCKET_IFNAME": interface,
        "TORCHINDUCTOR_CACHE_DIR": str(temp / "inductor"),
    }
    if interface != "lo":
        environment["NCCL_SOCKET_IFNAME"] = interface
    environment.pop("RAY_ADDRESS", None)
    with open(rendezvous / f"{name}.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            preexec_fn=_default_signals,
        )  # fmt: skip


def _default_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _closed(wait: float) -> bool:
    """Return whether stdin is closed; what comes through it is ignored."""
    return bool(select.select([0], [], [], wait)[0]) and not os.read(0, 4096)


def _kill_descendants() -> None:
    """Kill every descendant of this process."""
    for _ in range(50):
        found = descendants(os.getpid())
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    """Return the process ids of all descendants of a process."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    more = set(parents.get(pid, ()))
    while more:
        found |= more
        more = {child for p in more for child in parents.get(p, ())} - found
    return found


if __name__ == "__main__":
    sys.exit(main())
