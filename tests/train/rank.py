"""One rank of a worker group, as a script: rank.py ITEM.json RANK SIZE STORE [STOP_AFTER]."""

import itertools
import json
import os
import sys
from pathlib import Path

import torch

from medvq.train.run import WorkItem, run_one
from medvq.train.world import World, and_leave


def main():
    item, rank, size, store = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    asked, stop_after = itertools.count(1), int(sys.argv[5]) if len(sys.argv) > 5 else None
    run_one(
        WorkItem(**json.loads(item.read_text())),
        World(rank=rank, size=size),
        lambda: stop_after is not None and next(asked) >= stop_after,
    )
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    and_leave(main)
