"""progress.json, which shows a person where a run is."""

import json

import pytest

from medvq.cli.progress import line_of
from medvq.train import progress as module
from medvq.train.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when the test says so."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_there_is_no_speed_before_something_is_measured(tmp_path, clock):
    path = tmp_path / "progress.json"
    progress = Progress(path, epochs=4, steps_per_epoch=10, batch_size=8, done=20)

    def told(step, seconds):
        clock[0] += seconds
        progress.show(step, 0.25)
        return json.loads(path.read_text())

    first = told(20, 0)
    assert (first["images_per_s"], first["seconds_left"]) == (None, None)
    assert line_of(first) == "epoch 3/4, loss 0.2500"
    assert told(21, 0.1)["step"] == 20, "not more often than a person can read"
    second = told(22, 0.9)
    assert (second["images_per_s"], second["seconds_left"]) == (16.0, 9.0)
    assert line_of(second) == "epoch 3/4, loss 0.2500, 16 images/s, 0:09 left"
    assert told(40, 1)["epoch"] == 4, "the last epoch, not one more"
