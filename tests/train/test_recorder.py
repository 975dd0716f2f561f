"""What is written while a run trains, when, and by whom."""

import json

import pytest

from medvq.files import make_folder
from medvq.runs import events
from medvq.runs.owner import claim
from medvq.runs.process import Process
from medvq.train import recorder as module
from medvq.train.listener import Listeners
from medvq.train.recorder import Recorder
from medvq.train.setup import open_session
from medvq.train.world import World


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when the test says so."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def recorder(small, clock):
    """The recorder of a run of five epochs that has not begun; checkpoints are due every 100 s."""
    runs = small("runs", sets=["train.epochs=5", "resources.checkpoint_every=100 s"])
    spec, folder = runs.spec("pretrain"), runs.folder("pretrain")
    make_folder(folder.checkpoints)
    session = open_session(spec, folder, World(), lambda: False)
    made = Recorder(session, folder, claim(folder.owner, Process.current()), Listeners({}))
    yield made
    made.close()
    session.close()


def end_epochs(recorder, *values):
    """Let epochs end in which the validation metric that selects (val/mse, lower is better) has these values."""
    for value in values:
        position = recorder.session.position
        position.epoch, position.step = position.epoch + 1, position.step + 4
        recorder.end_epoch({"train/loss": 1.0, "val/mse": value})


def names(recorder):
    return sorted(p.name for p in recorder.folder.checkpoints.iterdir())


def told(recorder):
    return [e["event"] for e in events.read(recorder.folder.events)]


def test_the_best_epoch_is_kept_and_equals_do_not_replace_it(recorder):
    end_epochs(recorder, 0.5, 0.4, 0.4, 0.6)
    assert recorder.session.position.best == {"epoch": 2, "value": 0.4}
    assert names(recorder) == ["best-00000008", "latest.json"]
    state = json.loads((recorder.folder.checkpoints / "best-00000008/state.json").read_text())
    assert state["position"]["epoch"] == 2
    assert state.keys() >= recorder.metadata().keys() >= {"model", "classes", "pixels"}


def test_without_a_held_out_metric_nothing_is_best(recorder):
    recorder.session.position.epoch = 1
    recorder.end_epoch({"train/loss": 1.0})
    assert recorder.session.position.best is None
    assert names(recorder) == []


def test_checkpoints_are_written_by_time(recorder, clock):
    clock[0] += 99
    recorder.session.position.step = 1
    recorder.after_step()
    assert names(recorder) == []
    clock[0] += 1
    recorder.session.position.step = 2
    recorder.after_step()
    assert names(recorder) == ["latest.json", "step-00000002"]
    clock[0] += 9
    end_epochs(recorder, 0.5)
    assert "step-00000006" not in names(recorder), "too early, even for the end of an epoch"
    clock[0] += 1
    end_epochs(recorder, 0.6)
    assert "step-00000010" in names(recorder), "a tenth of the time has passed at the end of an epoch"
    clock[0] += 1
    end_epochs(recorder, 0.6, 0.6, 0.6)
    assert "step-00000022" in names(recorder), "the last epoch has a checkpoint in any case"
    assert told(recorder) == ["checkpoint", "epoch", "epoch", "checkpoint", "epoch", "epoch", "epoch", "checkpoint"]


def test_nothing_is_saved_once_a_loss_is_not_finite(recorder):
    recorder.session.loss_sync._bad = (3, ["loss"])
    recorder.save_checkpoint()
    assert names(recorder) == []


class Follower(World):
    """A rank to which rank 0 has nothing to say."""

    def broadcast(self, value):
        return None


def test_other_ranks_write_nothing(recorder, clock):
    session = recorder.session
    session.world = Follower(rank=1, size=2)
    other = Recorder(session, recorder.folder, recorder.owner, Listeners({}))
    before = sorted(recorder.folder.path.rglob("*"))
    clock[0] += 1000
    session.position.epoch, session.position.step = 5, 20
    other.after_step()
    assert other.end_epoch({"train/loss": 1.0, "val/mse": 0.5}) is False
    other.stop()
    other.close()
    assert sorted(recorder.folder.path.rglob("*")) == before


def test_a_stop_leaves_a_checkpoint_and_says_why(recorder):
    recorder.session.position.step = 3
    recorder.stop()
    assert names(recorder) == ["latest.json", "step-00000003"]
    assert told(recorder) == ["checkpoint", "stopped"]
    assert events.read(recorder.folder.events)[-1]["reason"] == "asked to stop"
