"""Mixtures, masks and held-out splits, from the study to the batch of a training step."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from medvq.config.locate import find
from medvq.config.recipe import load_recipe
from medvq.config.resolve import load_study
from medvq.errors import DataError, UsageError
from medvq.launch.data import find_data
from medvq.launch.describe import _steps
from medvq.launch.plan import make_plan, record
from medvq.runs import events
from medvq.runs.process import Process
from medvq.train.run import WorkItem, run_one
from medvq.train.setup import open_datasets, pixels_of
from medvq.train.view import held_out_view, training_view
from medvq.train.world import World

STUDY = """\
study: mixed
data:
  both: {mix: {fine: {weight: 4, crop: 32}, coarse: {resize: 32}}, splits: all, draws: 48}
  cells: {dataset: coarse, size: 32, evaluate: [val+test, train]}
defaults:
  model: {name: svqvae, levels: 1, channels: 8, residual_blocks: 1, residual_channels: 4, codebook_size: 16, head: [8]}
  train: {epochs: 1, batch_size: 24, optimizer: {lr: 1e-3}}
jobs:
  pretrain: {task: autoencode, data: {use: both, augment: {rotate: 180, fill: black}}}
  finetune:
    task: classify
    data: {use: cells, masks: true, augment: {rotate: 30}}
  copies: {task: classify, data: {use: cells, mask_copies: true, limit: 30}}
"""


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Two smears of different drawings: `fine` of 48 px and `coarse` of 32 px."""
    from medvq.shards.pack.pack import pack
    from medvq.shards.synth.smear import smear as draw

    folder = tmp_path_factory.mktemp("mixture")
    for name, size, seed in (("fine", 48, 7), ("coarse", 32, 8)):
        draw(folder / f"{name}-tree", samples=90, size=size, seed=seed)
        pack(folder / f"{name}-tree", folder / name, load_recipe(find("shards", "smear")), processes=1)
    return folder


@pytest.fixture
def planned(datasets, tmp_path):
    def _planned(text=STUDY, given=None):
        (tmp_path / "s.yaml").write_text(text)
        study = load_study(tmp_path / "s.yaml")
        found = find_data(
            study, study.jobs, given=given or {}, datasets=datasets, study_folder=tmp_path / "runs/s", make=None
        )
        return make_plan(study, found, runs=tmp_path / "runs")

    return _planned


def spec_of(plan, job):
    return next(s for s in plan.runs if s.job == job)


def done(plan, job):
    record(plan)
    spec = spec_of(plan, job)
    folder = plan.folder_of(spec)
    item = WorkItem(spec=spec.model_dump(mode="json"), folder=str(folder.path), holder=Process.current().record())
    assert run_one(item, World(), lambda: False) == "done"
    return json.loads(folder.result.read_text()), folder


def test_a_run_over_every_split_of_a_mixture(planned):
    plan = planned()
    result, folder = done(plan, "pretrain")
    assert {m.partition("/")[0] for m in result["metrics"]} == {"train"}
    assert result["checkpoint"] == "last"
    assert result["shares"]["smear"] == pytest.approx(1)  # both parts are smears
    assert result["samples"] == {"train": 180}
    assert result["steps"] == _steps(spec_of(plan, "pretrain")) == 2
    assert (folder.artifacts / "reconstructions.png").exists()
    latest = json.loads((folder.checkpoints / "latest.json").read_text())["last"]
    state = json.loads((folder.checkpoints / latest / "state.json").read_text())
    assert len(state["pixels"]["parts"]) == 2


def test_masked_copies_are_trained_on_and_not_measured(planned):
    result, folder = done(planned(), "copies")
    assert result["samples"]["train"] > 30
    keys = pq.read_table(folder.artifacts / "predictions-train.parquet")["key"].to_pylist()
    assert len(keys) == 30
    assert not [key for key in keys if "#" in key]


def test_each_dataset_of_a_mixture_has_its_own_pixel_statistics(planned):
    spec = spec_of(planned(), "pretrain")
    view = training_view(spec, open_datasets(spec))
    pixels = pixels_of(spec, view.parts, torch.device("cpu"))
    for i, part in enumerate(view.parts):
        black = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
        found = part.dataset.manifest.statistics
        want = -np.asarray(found.mean) / np.asarray(found.std)
        assert pixels.normalize(black, torch.tensor([i]))[0, :, 0, 0].numpy() == pytest.approx(want, rel=1e-5)
        assert pixels.unit(pixels.black(torch.tensor([i])), torch.tensor([i])).abs().max() < 1e-6


def test_the_order_of_a_mixture_does_not_depend_on_names(planned):
    one = spec_of(planned(), "pretrain")
    text = STUDY.replace(
        "{fine: {weight: 4, crop: 32}, coarse: {resize: 32}}",
        "{a: {dataset: coarse, resize: 32}, b: {dataset: fine, weight: 4, crop: 32}}",
    )
    two = spec_of(planned(text), "pretrain")
    assert one.identity == two.identity
    views = [training_view(s, open_datasets(s)) for s in (one, two)]
    assert views[0].key() == views[1].key()
    assert np.array_equal(views[0].rows()[1], views[1].rows()[1])


def test_masks_reach_training_and_only_training(planned):
    spec = spec_of(planned(), "finetune")
    data = open_datasets(spec)
    assert training_view(spec, data).masks
    assert not held_out_view(spec, data, "val").masks
    copies = spec_of(planned(), "copies")
    view = training_view(copies, open_datasets(copies))
    assert len(view) > 30  # thirty images and the masked copies of some
    assert view.samples.copies == len(view) - 30


def test_val_and_test_can_be_measured_together(planned):
    result, _ = done(planned(), "finetune")
    m, n = result["metrics"], result["samples"]
    both = (m["val/accuracy"] * n["val"] + m["test/accuracy"] * n["test"]) / (n["val"] + n["test"])
    assert m["val+test/accuracy"] == pytest.approx(both)
    assert 0 <= m["train/accuracy"] <= 1


def test_what_is_watched_of_test_and_chosen_by_it_is_marked_so(planned):
    text = STUDY.replace("masks: true", "limit: 40").replace(
        "  finetune:\n    task: classify\n",
        "  finetune:\n    task: classify\n    as_published: [best_on_test]\n    train: {epochs: 3}\n",
    )
    result, folder = done(planned(text), "finetune")
    history = [e["metrics"]["val+test/accuracy"] for e in events.epochs(events.read(folder.events))]
    assert len(history) == 3
    m = result["metrics"]
    assert m["val+test/accuracy_last"] == history[-1]
    assert m["val+test/accuracy_last10"] == pytest.approx(np.mean(history))
    assert m["val+test/accuracy_best_on_test"] == max(history)
    assert m["val+test/accuracy"] in history


def test_data_can_be_given_to_a_part_of_a_mixture(planned, datasets):
    plain = spec_of(planned(), "pretrain")
    for name in ("both.fine", "fine"):
        spec = spec_of(planned(given={name: str(datasets / "coarse")}), "pretrain")
        assert spec.datasets["both.fine"].digest == plain.datasets["both.coarse"].digest
    with pytest.raises(UsageError) as e:
        planned(given={"both.fin": "x"})
    assert "both.fine" in e.value.hint


def test_pretraining_on_the_test_images_is_a_leak_however_far_down(planned):
    leaky = STUDY.replace("{use: cells, masks: true", "{use: cells").replace(
        "  finetune:\n    task: classify\n",
        "  finetune:\n    task: classify\n    needs: {init: {job: pretrain, checkpoint: last}}\n",
    )
    with pytest.raises(DataError, match="in the test split of finetune"):
        planned(leaky)
    through = leaky.replace("{fine: {weight: 4, crop: 32}, coarse: {resize: 32}}", "{coarse: {resize: 32}}")
    through = through.replace("init: {job: pretrain,", "init: {job: between,") + (
        "  between: {task: classify, needs: {init: {job: pretrain, checkpoint: last}}, data: {use: others}}\n"
    )
    through = through.replace("  cells: {", "  others: {dataset: fine, size: 32}\n  cells: {")
    with pytest.raises(DataError, match="in the test split of finetune"):
        planned(through)


def test_a_job_that_holds_nothing_out_has_no_best_checkpoint(planned):
    text = STUDY.replace(
        "  finetune:\n    task: classify\n", "  finetune:\n    task: classify\n    needs: {init: {job: pretrain}}\n"
    )
    with pytest.raises(UsageError, match="no best checkpoint") as e:
        planned(text)
    assert e.value.hint == "say checkpoint: last"
