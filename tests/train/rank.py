"""One rank of a worker group, as a script: rank.py ITEM.json RANK SIZE STORE STOP_AFTER|- TAKE_OVER_AFTER|-.

It prints how the attempt ended.
"""

import itertools
import json
import os
import sys
from pathlib import Path

import torch

from medvq.runs.owner import claim
from medvq.runs.process import Process
from medvq.train.run import WorkItem, run_one
from medvq.train.world import World, and_leave


def main():
    item, rank, size, store = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    stop_after, take_over_after = (int(a) if a != "-" else None for a in sys.argv[5:7])
    work, asked = WorkItem(**json.loads(item.read_text())), itertools.count(1)

    def ask():
        step = next(asked)
        if rank == 0 and step == take_over_after:
            claim(Path(work.folder) / "owner", Process.of(work.holder))
        return stop_after is not None and step >= stop_after

    print(run_one(work, World(rank=rank, size=size), ask))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    and_leave(main)
