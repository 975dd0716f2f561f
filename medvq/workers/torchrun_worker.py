"""The program that torchrun starts for each rank: `torchrun … -m medvq.workers.torchrun_worker REQUEST.json`."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import torch

from medvq.runs.process import Process
from medvq.train.run import WorkItem
from medvq.train.world import and_leave, process_group
from medvq.workers.group import work_through

LOOK = 0.5
"""Seconds between two checks whether the owner is alive."""


def main(path: Path) -> None:
    """Do the runs of a request on this rank."""
    request = json.loads(path.read_bytes())
    _end_with(Process.of(request["owner"]))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if request["gpus"] else torch.device("cpu")
    with process_group(
        rank=int(os.environ["RANK"]),
        size=int(os.environ["WORLD_SIZE"]),
        device=device,
        threads=request["threads"],
        launcher="torchrun",
        store=path.with_name("ranks"),
    ) as world:
        work_through([WorkItem(**item) for item in request["items"]], world, Path(request["stop"]))


def _end_with(owner: Process) -> None:
    """End this process when its owner or torchrun is gone. A killed process cannot end its workers itself."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and owner.alive() is not False:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    and_leave(lambda: main(Path(sys.argv[1])))
