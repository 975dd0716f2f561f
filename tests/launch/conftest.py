"""Plans of a small study on the small dataset."""

import pytest

from medvq.config.resolve import load_study
from medvq.launch.data import find_data
from medvq.launch.plan import jobs_for, make_plan

STUDY = """\
study: s
data: {cells: {dataset: smear, size: 32}}
defaults:
  model: {name: svqvae, levels: 1, channels: 8}
  data: {use: cells}
  train: {epochs: 1, batch_size: 8, optimizer: {lr: 1e-3}}
jobs:
  finetune:
    task: classify
    needs: {init: {job: pretrain}}
    matrix: {data.subset: [100, 10], train.seed: [0, 1]}
  pretrain: {task: autoencode, matrix: {train.seed: [0, 1]}}
  alone: {task: classify}
"""


@pytest.fixture
def text():
    return STUDY


@pytest.fixture
def planned(smear, tmp_path):
    def _planned(text=STUDY, only=(), data=None):
        (tmp_path / "s.yaml").write_text(text)
        study = load_study(tmp_path / "s.yaml")
        found = find_data(
            study,
            jobs_for(study, only),
            given={"cells": str(data or smear)},
            datasets=tmp_path,
            study_folder=tmp_path / "runs/s",
            make=None,
        )
        return make_plan(study, found, runs=tmp_path / "runs", only=only)

    _planned.text = STUDY
    return _planned
