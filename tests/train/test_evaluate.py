"""Evaluation changes no state, keeps no graph, and measures each image once without balancing."""

import numpy as np
import torch

from medvq.models.build import build
from medvq.models.draws import Draws
from medvq.models.svqvae.settings import SVQVAESettings
from medvq.shards.dataset.dataset import Dataset
from medvq.train.evaluate import evaluate
from medvq.train.pixels import Pixels
from medvq.train.tasks.autoencode.info import AutoencodeObjective
from medvq.train.tasks.autoencode.task import Autoencode
from medvq.train.tasks.base import Batch, TaskContext
from medvq.train.view import held_out_view, training_view
from medvq.train.world import World


class Looking(torch.nn.Module):
    """Records the mode in which it is called."""

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


def test_evaluation_keeps_no_graph_and_no_mode():
    """Evaluation runs in evaluation and inference mode, restores the mode, and sorts rows by position."""
    task = Looking().train()
    found = evaluate(task, batches(), World())
    assert set(task.seen) == {(False, True)}
    assert task.training
    assert found.keys == [f"k{i}" for i in range(5)]
    assert found.rows["x"].tolist() == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert found.totals["n"] == 5


def test_counts_of_a_split_are_summed_before_the_perplexity_is_taken():
    """Perplexity is computed over the whole split, whatever the batch size."""
    torch.manual_seed(0)
    config = SVQVAESettings(levels=1, channels=8, residual_blocks=1, codebook_size=16)
    model = build(config, input_shape=(3, 32, 32))
    pixels = Pixels([([0.0] * 3, [1.0] * 3)], torch.device("cpu"))
    task = Autoencode(model, TaskContext(objective=AutoencodeObjective(), pixels=pixels))
    images = torch.randn(6, 3, 32, 32) * torch.arange(1, 7)[:, None, None, None]

    model(images, draws=Draws(0, 0))  # initialises the codebooks from data

    def split(size):
        parts = [slice(at, at + size) for at in range(0, 6, size)]
        label = torch.zeros(size, dtype=torch.int64)
        return [
            (np.arange(6)[at], Batch(keys=list("abcdef")[at], x=images[at], label=label, part=label)) for at in parts
        ]

    one, whole = evaluate(task, split(1), World()), evaluate(task, split(6), World())
    assert sum(total.sum() for total in one.totals.values()) == 6 * (4 * 4 + 8 * 8)
    for name in ("perplexity", "usage", "top10"):
        assert task.metrics(one)[name] == task.metrics(whole)[name]
    alone = [task.metrics(evaluate(task, [batch], World()))["perplexity"] for batch in split(1)]
    assert task.metrics(whole)["perplexity"] > 1.05 * np.mean(alone)


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


def test_a_balanced_draw_is_for_training_alone(small):
    """Held-out views contain every image once, so class frequencies are those of the dataset."""
    spec = small("runs", STUDY).spec("fit")
    datasets = {name: Dataset.open(ref.path) for name, ref in spec.datasets.items()}
    assert training_view(spec, datasets).balance == "class"
    for split in ("val", "test"):
        view = held_out_view(spec, datasets, split)
        assert view.balance == "none"
        assert len(view) == datasets["cells"].manifest.splits[split].samples
