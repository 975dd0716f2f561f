"""One rank of the process group of conftest.py: runs the requested functions until it receives None."""

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
        except Exception as error:  # the fixture reports it
            outbox.put((rank, None, repr(error)))
    dist.destroy_process_group()
