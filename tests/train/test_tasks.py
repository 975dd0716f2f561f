"""Every registered model with every registered task: it trains, gives the declared metrics, and units agree."""

import math

import pytest
import torch

from medvq.config.task_info import find_task
from medvq.registry import MODELS, TASKS
from medvq.runs.state import status_of
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.view import ViewPart
from medvq.train.setup import pixels_of
from medvq.train.tasks.autoencode.info import OF_CODES

MODEL_KEYS = {
    "svqvae": "{name: svqvae, levels: 1, channels: 8, residual_blocks: 1, residual_channels: 4, codebook_size: 16}",
    "vqvae": "{name: vqvae, channels: 8, residual_blocks: 1, codebook_size: 8, code_dim: 4}",
}
STUDY = """\
study: small
data: {{cells: {{dataset: smear, size: 32}}}}
defaults: {{model: {model}, data: {{use: cells}}, train: {{epochs: 1, batch_size: 24, optimizer: {{lr: 1e-3}}}}}}
jobs:
  first: {{task: autoencode}}
  {task}: {{task: {task}, {needs}}}
"""


def test_everything_registered_is_tested():
    assert set(MODEL_KEYS) == set(MODELS)
    assert all(find_task(name) is TASKS[name].info for name in TASKS)


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("model", sorted(MODELS))
def test_it_trains_and_gives_the_declared_metrics(small, model, task):
    needs = "needs: {init: {job: first}}" if find_task(task).requires else ""
    runs = small("runs", STUDY.format(model=MODEL_KEYS[model], task=task, needs=needs))
    if needs:
        runs.do("first")
    if (model, task) == ("vqvae", "classify"):
        with pytest.raises(Exception, match="no classifier head"):
            runs.do(task)
        return
    assert runs.do(task) == "done"
    metrics = status_of(runs.folder(task)).metrics
    assert set(metrics) <= set(find_task(task).declared)
    measured = {m for m in find_task(task).metrics if m.split("/")[0] in ("val", "test")}
    measured |= {f"{split}/{name}" for name in OF_CODES for split in ("val", "test") if task == "autoencode"}
    assert {m for m in measured if not m.endswith("auc")} <= set(metrics)
    assert all(math.isfinite(v) for v in metrics.values())


@pytest.mark.parametrize(("output", "low", "high"), [("tanh", -1, 1), ("sigmoid", 0, 1)])
def test_pixels_are_in_the_range_that_the_model_can_put_out(small, output, low, high):
    """A sigmoid output against normalized pixels has an error that training cannot remove."""
    runs = small(
        "runs", STUDY.format(model=MODEL_KEYS["vqvae"][:-1] + f", output: {output}}}", task="autoencode", needs="")
    )
    spec = runs.spec("autoencode")
    (ref,) = spec.datasets.values()
    pixels = pixels_of(spec, [ViewPart(dataset=Dataset.open(ref.path))], torch.device("cpu"))
    stored, part = torch.tensor([0, 255], dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    ends = pixels.normalize(stored.view(2, 1, 1, 1).expand(2, 3, 1, 1), part)
    assert (ends[0].unique().item(), ends[1].unique().item()) == (low, high)
    back = pixels.unit(ends, part)
    assert (back[0].unique().item(), back[1].unique().item()) == (0, 1)
