"""A group of two gloo ranks, started once, that runs functions of this folder on request."""

import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parent))

from rank_group import WORLD, serve


@pytest.fixture(autouse=True)
def steady():
    """Seed torch and use one thread: with tensors this small, more threads only wait for each other."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    """Call with "module:function": it runs as function(rank, world) on every rank; returns what each returned."""
    context = mp.get_context("spawn")
    inboxes, outbox = [context.Queue() for _ in range(WORLD)], context.Queue()
    store = tmp_path_factory.mktemp("gloo") / "store"
    workers = [
        context.Process(target=serve, args=(rank, store, inboxes[rank], outbox), daemon=True) for rank in range(WORLD)
    ]
    for worker in workers:
        worker.start()

    def run(name):
        for inbox in inboxes:
            inbox.put(name)
        answers = {}
        for _ in range(WORLD):
            rank, value, error = outbox.get(timeout=120)
            assert error is None, f"rank {rank}: {error}"
            answers[rank] = value
        return [answers[rank] for rank in range(WORLD)]

    yield run
    for inbox in inboxes:
        inbox.put(None)
    for worker in workers:
        worker.join(timeout=20)
