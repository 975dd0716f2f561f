"""1, 2 and 4 ranks give the same losses and codebooks, and evaluate each sample once."""

import json
import sys

import numpy as np
import pytest


def do(runs, size, job="pretrain", stop_after=None):
    """Do a run on `size` ranks."""
    if size == 1:
        return runs.do(job, stop_after)
    runs.on_ranks(size, job, stop_after)
    return "done"


def close(one, other):
    """Metrics agree to float tolerance; counts of codes and ranks of scores may jump if two are almost equal."""
    assert one.keys() == other.keys()
    for name in one:
        loose = name.endswith(("perplexity", "usage", "top10", "auc"))
        np.testing.assert_allclose(one[name], other[name], rtol=5e-2 if loose else 2e-3, err_msg=name)


@pytest.mark.parametrize("size", [2, 4])
def test_more_ranks_give_the_same_numbers(small, size, augmented):
    sets = augmented if size == 2 else []
    one, many = small("one", sets=sets), small("many", sets=sets)
    for runs, n in ((one, 1), (many, size)):
        do(runs, n)
        do(runs, n, "finetune")
    for job in ("pretrain", "finetune"):
        (a, _, log_a, _), (b, _, log_b, _) = one.left(job), many.left(job)
        assert a["samples"] == b["samples"]
        assert len(log_a) == len(log_b)
        close(log_a[0]["metrics"], log_b[0]["metrics"])
        close(a["metrics"], b["metrics"])
    books = [json.loads((r.folder("pretrain").artifacts / "codebooks.json").read_text()) for r in (one, many)]
    positions = [{name: sum(book["counts"]) for name, book in found.items()} for found in books]
    assert positions[0] == positions[1], "counts are summed over all ranks"


OWN = """\
import torch
from torch import nn

from medvq.config.settings import ModelSettings


class Net(nn.Module):
    class Settings(ModelSettings):
        own_draws: bool = False
        \"\"\"Whether it draws by itself as well.\"\"\"

    def __init__(self, config, input_shape, classes):
        super().__init__()
        self.own_draws = config.own_draws
        self.net = nn.Sequential(
            nn.Conv2d(input_shape[0], 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(0.3), nn.Flatten(),
            nn.Linear(6 * 15 * 15, 8), nn.BatchNorm1d(8, momentum=None), nn.Dropout(0.4), nn.Linear(8, classes),
        )

    def forward(self, x):
        if self.own_draws and self.training:
            x = nn.functional.dropout(x, 0.2) + 0.1 * torch.randn_like(x)
        return self.net(x)
"""
FIT = """\
study: small
data: {cells: {dataset: smear, size: 32}}
jobs:
  fit:
    task: classify
    model: {name: "lab_nets:Net"}
    data: {use: cells}
    train: {epochs: 2, batch_size: 24, optimizer: {lr: 1e-3}}
"""


@pytest.fixture
def own(small, tmp_path, monkeypatch):
    """Runs of a network of one's own, with BatchNorm and dropout."""
    (tmp_path / "lab_nets.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lab_nets", raising=False)
    yield lambda name, sets=(): small(name, FIT, sets)
    sys.modules.pop("lab_nets", None)


def test_batchnorm_and_dropout_of_ones_own_are_those_of_the_global_batch(own):
    one, many = own("one"), own("many")
    do(one, 1, "fit")
    do(many, 2, "fit")
    for a, b in zip(one.left("fit")[2], many.left("fit")[2], strict=True):
        close(a["metrics"], b["metrics"])


def test_what_ones_own_code_draws_does_not_depend_on_where_a_run_was_stopped(own):
    whole, stopped = (own(name, ["model.own_draws=true"]) for name in ("whole", "stopped"))
    assert do(whole, 1, "fit") == "done"
    assert do(stopped, 1, "fit", stop_after=3) == "stopped"
    assert do(stopped, 1, "fit") == "done"
    assert whole.left("fit") == stopped.left("fit")


def test_a_run_may_go_on_with_another_number_of_ranks(small):
    one, mixed = small("one"), small("mixed")
    one.do()
    mixed.do(stop_after=3)
    do(mixed, 2)
    close(one.left()[0]["metrics"], mixed.left()[0]["metrics"])


def test_three_ranks_go_on_bit_for_bit(small):
    """With three ranks the order of sums matters: DDP's buckets must be the same as without the stop."""
    wide = ["model.channels=32", "model.residual_channels=16"]
    alone, stopped = small("alone", sets=wide), small("stopped", sets=wide)
    do(alone, 3)
    do(stopped, 3, stop_after=2)
    do(stopped, 3)
    assert stopped.left() == alone.left()


@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_in_parts_gives_the_numbers_of_the_whole(small, size, augmented):
    sets = augmented if size == 2 else []
    whole, parts = small("whole", sets=sets), small("parts", sets=[*sets, "train.accumulate=3"])
    for runs, n in ((whole, 1), (parts, size)):
        do(runs, n)
        do(runs, n, "finetune")
    for job in ("pretrain", "finetune"):
        for a, b in zip(whole.left(job)[2], parts.left(job)[2], strict=True):
            close(a["metrics"], b["metrics"])
