"""A Ray cluster over all nodes of a SLURM job."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvq.errors import MedvqError
from medvq.files import make_folder, read_json, write_json
from medvq.launch.allocation import node_tmp
from medvq.launch.allocation.allocation import Allocation
from medvq.launch.allocation.rendezvous import new_rendezvous, remove_rendezvous
from medvq.workers.ray_group import LocalRay, end, short_temp

NODES_WITHIN = 300.0
"""Seconds for the node agents of all nodes to appear."""
NOTE_EVERY = 15.0
"""Seconds between notes about missing nodes."""
CLOSE_WITHIN = 30.0
"""Seconds for the node agents to end."""


class AllocatedRay(LocalRay):
    """A Ray cluster of node agents, which `srun` starts on the nodes; they find each other in the rendezvous folder.

    Token, ports and temporary folders are its own, so that it does not interfere with other Rays on the same nodes.
    """

    def __init__(self, given: Allocation, shared: Path, note: Callable[[str], None]) -> None:
        super().__init__(workers=given.cpus, gpus=given.gpus)
        self.given, self.shared, self.note = given, shared, note
        self._agents: subprocess.Popen[bytes] | None = None
        self._rendezvous: Path | None = None

    def close(self) -> None:
        """Stop Ray on every node, and remove its files."""
        super().close()
        agents, rendezvous = self._agents, self._rendezvous
        self._agents = self._rendezvous = None
        if agents is not None:
            end(agents, CLOSE_WITHIN)
        if rendezvous is not None:
            remove_rendezvous(self.shared, self.given.job)

    def _open(self) -> subprocess.Popen[str]:
        rendezvous = new_rendezvous(self.shared, self.given.job)
        self._rendezvous = rendezvous
        token = rendezvous / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        temp = short_temp() / f"{node_tmp.PREFIX}{self.given.job}{rendezvous.name[-5:]}"
        interface = os.environ.get("MEDVQ_INTERFACE")
        facts = {"temp": str(temp), "interface": interface, "driver": os.getpid()}
        write_json(rendezvous / "request.json", {**asdict(self.given), **facts})
        self._agents = subprocess.Popen(
            agent_command(self.given, rendezvous),
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        self.environment = {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_AUTH_MODE": "token"}
        self.environment["RAY_TMPDIR"] = str(node_tmp.ray_folder(temp))
        return super()._open()

    def _cluster(self) -> dict[str, Any]:
        assert self._rendezvous is not None
        assert self._agents is not None
        self._wait_for_nodes(self._rendezvous, self._agents)
        head = read_json(self._rendezvous / "head.json")
        return {
            "address": f"{head['address']}:{head['port']}",
            "nodes": list(self.given.nodes),
            "storage": str(make_folder(self._rendezvous / "train")),
        }

    def _wait_for_nodes(self, rendezvous: Path, agents: subprocess.Popen[bytes]) -> None:
        begin, said = time.monotonic(), 0.0
        while True:
            missing = [n for n in self.given.nodes if not (rendezvous / f"{n}.here").exists()]
            if not missing and (rendezvous / "head.json").exists():
                return
            waited = time.monotonic() - begin
            what = f"no sign of {', '.join(missing)}" if missing else f"Ray does not start on {self.given.nodes[0]}"
            if agents.poll() is not None or waited > NODES_WITHIN:
                raise MedvqError(f"{what} after {waited:.0f} s", where=f"SLURM job {self.given.job}")
            if waited - said > NOTE_EVERY:
                said = waited
                self.note(f"waiting: {what} after {waited:.0f} s")
            time.sleep(0.1)


def agent_command(given: Allocation, rendezvous: Path) -> list[str]:
    """Return the command line of srun that starts one agent per node, beside the driver."""
    count = str(len(given.nodes))
    return [
        "srun", "--overlap", "--nodes", count, "--ntasks", count, "--ntasks-per-node=1",
        f"--cpus-per-task={given.cpus}", "--kill-on-bad-exit=0", "--wait=0", "--cpu-bind=none", "--job-name=ray",
        *python(), "-m", "medvq.launch.allocation.node_agent", str(rendezvous),
    ]  # fmt: skip


def python() -> list[str]:
    """Return the command that starts Python on a node: as the profile says, else this Python."""
    given = os.environ.get("MEDVQ_PYTHON")
    return shlex.split(given) if given else [sys.executable]
