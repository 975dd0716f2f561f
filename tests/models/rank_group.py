"""One rank of the group that conftest starts: runs the functions that it is sent until it is told to stop."""

import importlib
import sys
from pathlib import Path

import torch
import torch.distributed as dist

WORLD = 2


def serve(rank, store, inbox, outbox):
    sys.path.insert(0, str(Path(__file__).parent))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    while (name := inbox.get()) is not None:
        try:
            module, function = name.split(":")
            outbox.put((rank, getattr(importlib.import_module(module), function)(rank, WORLD), None))
        except Exception as error:  # the caller raises it
            outbox.put((rank, None, repr(error)))
    dist.destroy_process_group()
