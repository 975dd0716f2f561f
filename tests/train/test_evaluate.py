"""Evaluation changes nothing, keeps nothing, and sees the images as they are."""

import numpy as np
import torch

from medvq.shards.dataset import Dataset
from medvq.train.evaluate import evaluate
from medvq.train.tasks.base import Batch
from medvq.train.view import held_out_view, training_view
from medvq.train.world import World


class Looking(torch.nn.Module):
    """Says in which mode it is measured."""

    classes = ()

    def __init__(self):
        super().__init__()
        self.seen = []

    def measure(self, batch):
        self.seen.append((self.training, torch.is_inference_mode_enabled()))
        return {"x": batch.x}, {"n": torch.tensor(len(batch.x))}


def batches(n=5):
    for i in range(n):
        where = np.array([n - 1 - i])
        yield (
            where,
            Batch(keys=[f"k{n - 1 - i}"], x=torch.tensor([float(i)]), label=torch.zeros(1), part=torch.zeros(1)),
        )


def test_x12_evaluation_keeps_no_graph_and_no_mode():
    """Trap X12."""
    task = Looking().train()
    found = evaluate(task, batches(), World())
    assert set(task.seen) == {(False, True)}
    assert task.training
    assert found.keys == [f"k{i}" for i in range(5)]
    assert found.rows["x"].tolist() == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert found.totals["n"] == 5


STUDY = """\
study: small
data: {cells: {dataset: smear, size: 32}}
jobs:
  fit:
    task: classify
    model: {name: svqvae, levels: 1, channels: 8, codebook_size: 16}
    data: {use: cells, balance: class, subset: 50, augment: {flip: true}}
    train: {epochs: 1, batch_size: 24, optimizer: {lr: 1e-3}}
"""


def test_x5_a_balanced_draw_is_for_training_alone(small):
    """Trap X5: what is measured has the classes as often as the dataset does, each image once."""
    spec = small("runs", STUDY).spec("fit")
    datasets = {name: Dataset.open(ref.path) for name, ref in spec.datasets.items()}
    assert training_view(spec, datasets).balance == "class"
    for split in ("val", "test"):
        view = held_out_view(spec, datasets, split)
        assert view.balance == "none"
        assert len(view) == datasets["cells"].manifest.splits[split].samples
