"""From the rows that runs keep of every image, every metric and an interval can be computed."""

import json
import shutil

import numpy as np
import pytest
import torch

from medvq.metrics.codebook import codebook_use
from medvq.results.intervals import interval_of, majority, read_common, resampled_metric
from medvq.runs.folder import RunFolder
from medvq.runs.state import status_of

STUDY = """\
study: small
data: {cells: {dataset: smear, size: 32, evaluate: [val+test, train]}}
defaults:
  model: {name: svqvae, levels: 1, channels: 8, residual_blocks: 1, codebook_size: 16, head: [8]}
  data: {use: cells}
  train: {epochs: 1, batch_size: 24, optimizer: {lr: 1e-3}}
jobs:
  pretrain: {task: autoencode, objective: {foreground: 0.2}, as_published: [ssim_own_range]}
  finetune: {task: classify, needs: {init: {job: pretrain}}}
  probe: {task: probe, needs: {init: {job: pretrain}}}
"""
OF_CODES = ("perplexity", "usage", "top10")


def test_every_metric_of_every_split_comes_out_of_what_was_kept(small):
    runs = small("runs", STUDY)
    for job in ("pretrain", "finetune", "probe"):
        assert runs.do(job) == "done"
        folder = runs.folder(job)
        metrics = status_of(folder).metrics
        assert {m.partition("/")[0] for m in metrics} == {"val", "test", "val+test", "train"}
        for metric, value in metrics.items():
            name = metric.partition("/")[2]
            if name in OF_CODES:
                continue
            (columns,) = read_common([folder], metric)
            found = resampled_metric(columns, name)(np.ones((1, len(columns["key"]))))
            assert found[0] == pytest.approx(value, rel=1e-6), metric
            interval = interval_of([folder], metric)
            assert interval.low - 1e-9 <= value <= interval.high + 1e-9, metric
    value, interval = majority(runs.folder("finetune"), "val+test/accuracy")
    assert interval.low < value < interval.high
    use_comes_out_of_counts(runs.folder("pretrain"))


def use_comes_out_of_counts(folder):
    books = json.loads((folder.artifacts / "codebooks.json").read_text())
    found = [codebook_use(torch.tensor(book["counts"])) for book in books.values()]
    metrics = status_of(folder).metrics
    assert len(found) == 2
    for name in OF_CODES:
        assert metrics[f"test/{name}"] == pytest.approx(sum(getattr(u, name) for u in found) / 2)


def test_runs_that_kept_other_images_have_no_common_interval(small, tmp_path):
    runs = small("runs", STUDY)
    assert runs.do("pretrain") == "done"
    folder = runs.folder("pretrain")
    other = RunFolder(shutil.copytree(folder.path, tmp_path / "other"))
    assert interval_of([folder, other], "val/mse") is not None
    shutil.copy(folder.artifacts / "predictions.parquet", other.artifacts / "predictions-val.parquet")
    assert interval_of([folder, other], "val/mse") is None
    (other.artifacts / "predictions-val.parquet").unlink()
    assert interval_of([folder, other], "val/mse") is None
    assert interval_of([folder, other], "val+test/mse") is None
