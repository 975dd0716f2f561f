"""torchrun worker groups on this machine: one process of torch's own launcher for each group."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from medvq.runs.process import Process
from medvq.train.run import WorkItem
from medvq.workers.group import Group, GroupSpec, WorkersError
from medvq.workers.ray_group import PREFIX, short_temp, sweep, tail

GONE = 30.0
"""Seconds to wait until torchrun has ended its workers."""


class Torchrun:
    """Starts `torchrun`. Its processes find each other through a file, so that nothing listens beyond loopback."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._agent: subprocess.Popen[bytes] | None = None

    def start(self, items: Sequence[WorkItem], spec: GroupSpec, stop_file: Path) -> Group:
        """Start doing the runs in a group of workers, and return at once."""
        sweep()
        process = Process.current()
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{process.pid}-{process.start}-", dir=short_temp()))
        request = {
            "items": [asdict(item) for item in items],
            "stop": str(stop_file),
            "owner": process.record(),
            **asdict(spec),
        }
        (folder / "request.json").write_text(json.dumps(request))
        return Group(lambda: self._do(folder, spec.workers))

    def close(self) -> None:
        """End the workers, if there are any."""
        agent = self._agent
        if agent is not None and agent.poll() is None:
            agent.terminate()
            try:
                agent.wait(GONE)
            except subprocess.TimeoutExpired:
                agent.kill()  # the workers notice that it is gone, and end

    def _do(self, folder: Path, workers: int) -> None:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={workers}",
            "--max-restarts=0", "--rdzv-backend=c10d", f"--rdzv-endpoint={folder / 'agents'}",
            "--rdzv-conf=store_type=file", f"--rdzv-id={folder.name}", "--monitor-interval=0.1",
            "-m", "medvq.workers.torchrun_worker", str(folder / "request.json"),
        ]  # fmt: skip
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
            "OMP_NUM_THREADS": "1",  # the workers set their own number of threads
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # the server would listen on all interfaces
            **self.environment,
        }
        try:
            with open(folder / "agent.log", "w") as log:
                self._agent = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C reaches only the owner, which sends a stop request
                    env=environment,
                )
            code = self._agent.wait()
            if code:
                raise WorkersError(f"torchrun ended with {code}; {tail(folder / 'agent.log')}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
