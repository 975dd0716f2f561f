"""A small study on the small dataset, and a way to run it without the command line."""

import dataclasses
import importlib
import json
import sys
import tempfile
from pathlib import Path

import pytest
from as_process import Forked

from medvq.config.resolve import load_study
from medvq.launch.data import find_data
from medvq.launch.plan import make_plan, record
from medvq.runs import events
from medvq.runs.process import Process
from medvq.train.run import WorkItem, run_one
from medvq.train.world import World

STUDY = """\
study: small
data: {cells: {dataset: smear, size: 32}}
defaults:
  model: {name: svqvae, levels: 1, channels: 8, residual_blocks: 1, residual_channels: 4, codebook_size: 16, head: [8]}
  data: {use: cells, augment: {flip: true, rotate: 30}}
  train: {epochs: 2, batch_size: 24, optimizer: {lr: 1e-3, weight_decay: 0.05}, schedule: cosine}
jobs:
  pretrain: {task: autoencode}
  finetune: {task: classify, needs: {init: {job: pretrain}}, objective: {reconstruct_every: 2}}
"""
NOT_SCIENCE = ("time", "attempt", "host", "pid")


@dataclasses.dataclass
class Runs:
    """The runs of a plan in one folder."""

    plan: object

    def folder(self, job):
        return self.plan.folder_of(self.spec(job))

    def spec(self, job):
        """The run of a job; jobs that are the same have one run."""
        also = {spec.run: [point.job for point in self.plan.also.get(spec.run, ())] for spec in self.plan.runs}
        return next(s for s in self.plan.runs if job in (s.job, *also[s.run]))

    def do(self, job="pretrain", stop_after=None, term=None):
        """Do a run in this process; ask it to stop after `stop_after` steps. `term` is as in a SLURM job."""
        asked = 0

        def ask():
            nonlocal asked
            asked += 1
            return stop_after is not None and asked >= stop_after

        item = dataclasses.replace(self.item(job), term=term and dataclasses.asdict(term))
        return run_one(item, World(), ask)

    def on_ranks(self, size, job="pretrain", stop_after=None, take_over_after=None, patience=300):
        """Do a run on `size` ranks, each of which is a process; return how it ended on each.

        Another attempt takes the run over at step `take_over_after`.
        """
        item = self.plan.folder / f"{job}.json"
        item.write_text(json.dumps(dataclasses.asdict(self.item(job))))
        script = Path(__file__).with_name("rank.py")
        more = ["-" if steps is None else steps for steps in (stop_after, take_over_after)]
        endings = []
        with tempfile.TemporaryDirectory() as meeting:
            ranks = [Forked([script, item, r, size, f"{meeting}/ranks", *more], self.plan.folder) for r in range(size)]
            try:
                for rank in ranks:
                    code, stdout, stderr = rank.wait(patience)
                    assert code == 0, stderr
                    endings.append(stdout.split()[-1])
            finally:
                for rank in ranks:
                    rank.kill()
        return endings

    def item(self, job):
        return WorkItem(
            spec=self.spec(job).model_dump(mode="json"),
            folder=str(self.folder(job).path),
            holder=Process.current().record(),
        )

    def left(self, job="pretrain"):
        """Everything that a run writes except times and places."""
        folder = self.folder(job)
        log = [{k: v for k, v in e.items() if k not in NOT_SCIENCE} for e in events.epochs(events.read(folder.events))]
        latest = json.loads((folder.checkpoints / "latest.json").read_text())
        weights = {k: (folder.checkpoints / v / "model.safetensors").read_bytes() for k, v in latest.items()}
        return (
            json.loads(folder.result.read_text()),
            weights,
            log,
            (folder.artifacts / "predictions.parquet").read_bytes(),
        )


EVERY_CHANGE = {
    "flip": True,
    "rotate": 30,
    "scale": {"factor": [0.8, 1.2], "p": 0.7},
    "translate": 0.1,
    "elastic": {"displacement": 1, "spacing": 8, "p": 0.5},
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 0.2,
    "blur": {"sigma": [0.1, 2], "p": 0.5},
    "noise": [0, 0.05],
}


@pytest.fixture
def every_change():
    """Settings of `augment` with every random change on."""
    return EVERY_CHANGE


@pytest.fixture
def augmented():
    """The `--set` that switches every random change on."""
    return [f"data.augment={json.dumps(EVERY_CHANGE)}"]


@pytest.fixture
def small(smear, tmp_path):
    """Makes the runs of the small study in a folder."""

    def _small(name, text=STUDY, sets=()):
        path = tmp_path / "small.yaml"
        path.write_text(text)
        study = load_study(path, sets=sets)
        runs = tmp_path / name
        found = find_data(
            study, study.jobs, given={"cells": str(smear)}, datasets=tmp_path, study_folder=runs / "small", make=None
        )
        plan = make_plan(study, found, runs=runs)
        record(plan)
        return Runs(plan)

    return _small


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Writes a module of a user's own, which Python finds, and imports it."""
    made = []

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        made.append(name)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in made:
        sys.modules.pop(name, None)
