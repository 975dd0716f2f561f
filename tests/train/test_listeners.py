"""Listeners of a user's own: what they are told, how they stop a run, and what their errors do."""

from pathlib import Path

import pytest

from medvq.config.resolve import load_study
from medvq.errors import ConfigError
from medvq.launch.slurm.snapshot import contents
from medvq.launch.slurm.submit import _own
from medvq.runs import events
from medvq.runs.state import status_of

WATCH = '''\
import json

from medvq.train.listener import EpochListener, StopTraining


class Watcher(EpochListener):
    """Writes down what it is told, and stops after the epochs in `stops`."""

    stops = ()
    told = []

    def on_epoch(self, epoch):
        log = (epoch.folder / "events.jsonl").read_text().splitlines()
        assert json.loads(log[-1])["metrics"] == epoch.metrics
        self.told.append((epoch.epoch, epoch.step, dict(epoch.metrics)))
        epoch.metrics.clear()
        return StopTraining(f"enough of epoch {epoch.epoch}") if epoch.epoch in self.stops else None

    def on_end(self, end):
        self.told.append((end.run, end.outcome, (end.folder / "result.json").exists()))


class Second(Watcher):
    """Is told after Watcher."""


class Always(EpochListener):
    def on_epoch(self, epoch):
        return StopTraining("always")


class Faulty(EpochListener):
    fails = True

    def on_epoch(self, epoch):
        if self.fails:
            return 1 / 0  # the user's line

    def on_end(self, end):
        raise KeyError("at the end")


class Chatty(EpochListener):
    def on_epoch(self, epoch):
        return True


class Demanding(EpochListener):
    def __init__(self, token):
        self.token = token


def function(epoch):
    pass
'''


@pytest.fixture
def watch(own_module):
    return own_module("lab_watch", WATCH)


def listening(small, name, *classes, sets=()):
    paths = ", ".join(f"'lab_watch:{c}'" for c in classes)
    return small(name, sets=[f"resources.listeners=[{paths}]", *sets])


def last_event(runs):
    return events.read(runs.folder("pretrain").events)[-1]


@pytest.fixture
def undisturbed(small):
    runs = small("alone")
    assert runs.do() == "done"
    return runs


def test_they_hear_of_every_epoch_and_change_nothing(small, watch, undisturbed):
    runs = listening(small, "heard", "Watcher", "Second")
    assert runs.do() == "done"
    assert runs.left() == undisturbed.left(), "the same run, with the same bits"
    log = events.epochs(events.read(runs.folder("pretrain").events))
    epochs = [(e["epoch"], e["step"], e["metrics"]) for e in log]
    end = (runs.spec("pretrain").run, "done", True)
    assert watch.Watcher.told == [epochs[0], epochs[0], epochs[1], epochs[1], end, end]
    assert {name.partition("/")[0] for name in epochs[0][2]} == {"train", "val"}
    assert contents(_own(runs.plan)).keys() - contents().keys() == {Path("lab_watch.py")}, "it goes to SLURM's nodes"


def test_they_can_stop_a_run_which_goes_on_when_started_again(small, watch, undisturbed):
    runs = listening(small, "stopped", "Watcher")
    watch.Watcher.stops = (1, 2)
    assert runs.do() == "stopped"
    status = status_of(runs.folder("pretrain"))
    assert (status.state, status.epoch, status.asked) == ("stopped", 1, True)
    stop = last_event(runs)
    assert (stop["event"], stop["step"], stop["reason"]) == ("stopped", 4, "enough of epoch 1")
    assert stop["listener"] == "lab_watch:Watcher"
    assert watch.Watcher.told[-1] == (runs.spec("pretrain").run, "stopped", False)
    assert [p.name for p in runs.folder("pretrain").checkpoints.glob("step-*")] == ["step-00000004"]
    assert runs.do() == "done", "after the last epoch there is nothing to stop"
    assert runs.left() == undisturbed.left()


def test_an_error_fails_the_run_with_the_listeners_name_and_loses_nothing(small, watch, undisturbed, monkeypatch):
    runs = listening(small, "failed", "Watcher", "Faulty")
    with pytest.raises(RuntimeError, match="lab_watch:Faulty"):
        runs.do()
    status = status_of(runs.folder("pretrain"))
    assert (status.state, status.epoch) == ("failed", 1)
    assert status.failure["error"].startswith("ListenerError: lab_watch:Faulty failed in on_epoch: ZeroDivisionError")
    assert "the user's line" in status.failure["traceback"][-1]
    assert watch.Watcher.told[-1][1:] == ("failed", False)
    monkeypatch.setattr(watch.Faulty, "fails", False)
    assert runs.do() == "done", "its on_end raises again, after the result was written"
    assert "lab_watch:Faulty failed in on_end" in runs.folder("pretrain").log(2, 0).read_text()
    assert [t[0] for t in watch.Watcher.told if len(t[2:]) and isinstance(t[0], int)] == [1, 2]
    assert runs.left() == undisturbed.left()


@pytest.mark.parametrize(
    ("name", "words"),
    [("Chatty", "lab_watch:Chatty returned a bool"), ("Demanding", "lab_watch:Demanding cannot be made")],
)
def test_what_is_no_listener_at_work_fails_the_run(small, watch, name, words):
    runs = listening(small, "bad", name, sets=["train.epochs=1"])
    with pytest.raises(RuntimeError, match=words):
        runs.do()
    assert words in status_of(runs.folder("pretrain")).failure["error"]


def test_all_ranks_stop_together(small, watch):
    runs = listening(small, "ranks", "Always")
    runs.on_ranks(2)
    stop = last_event(runs)
    assert (stop["event"], stop["reason"]) == ("stopped", "always")
    assert status_of(runs.folder("pretrain")).epoch == 1


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        ("Printer", "is not an import path"),
        ("lab_watch:Watchr", "did you mean Watcher"),
        ("lab_wach:Watcher", "there is no module 'lab_wach'"),
        ("lab_watch:function", "is no listener"),
        ("lab_watch:json", "is no listener"),
    ],
)
def test_a_wrong_name_is_told_when_the_study_is_read(tmp_path, watch, listener, words):
    study = tmp_path / "study.yaml"
    study.write_text(
        "study: s\ndata: {cells: {dataset: smear}}\njobs:\n  fit:\n    task: autoencode\n"
        "    model: {name: svqvae, levels: 1}\n    data: {use: cells}\n"
        "    train: {epochs: 1, batch_size: 4, optimizer: {lr: 1e-3}}\n"
        f"    resources:\n      listeners:\n        - lab_watch:Watcher\n        - '{listener}'\n"
    )
    with pytest.raises(ConfigError) as e:
        load_study(study)
    (problem,) = e.value.problems
    assert problem.where == f"{study}:12: jobs.fit.resources.listeners[1]"
    assert words in f"{problem.error} {problem.hint}"
