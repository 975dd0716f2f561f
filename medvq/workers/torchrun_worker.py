"""The program that torchrun starts for each rank: `torchrun … -m medvq.workers.torchrun_worker REQUEST.json`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from medvq.processes import end_with_parent
from medvq.runs.process import Process
from medvq.train.run import WorkItem
from medvq.train.world import and_leave, process_group
from medvq.workers.group import work_through


def main(path: Path) -> None:
    """Do the runs of a request on this rank."""
    request = json.loads(path.read_bytes())
    owner = Process.of(request["owner"])
    end_with_parent(alive=lambda: owner.alive() is not False)
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


if __name__ == "__main__":
    and_leave(lambda: main(Path(sys.argv[1])))
