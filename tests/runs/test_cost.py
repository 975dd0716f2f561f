"""Device hours of runs."""

import pytest

from medvq.runs.cost import device_hours


def attempt(at, **more):
    return {"event": "attempt", "time": at, "workers": 2, "threads": 3, "device": "cpu", "hosts": ["a"], **more}


def at(time, event):
    return {"event": event, "time": time}


def test_hours_after_the_last_checkpoint_of_a_broken_attempt_are_lost():
    log = [attempt(0), at(1800, "checkpoint"), at(3600, "epoch"), attempt(9000), at(12600, "done")]
    found = device_hours(log, None)
    assert found.productive == pytest.approx(6 * 0.5 + 6 * 1)
    assert found.lost == pytest.approx(6 * 0.5)
    assert (found.device, found.hosts) == ("cpu", ("a",))


def test_an_attempt_that_goes_on_has_lost_nothing_yet():
    found = device_hours([attempt(0), at(1800, "epoch")], now=3600)
    assert (found.productive, found.lost) == (pytest.approx(6), 0)


def test_gpus_count_once_each_whatever_their_threads():
    found = device_hours([attempt(0, device="cuda:0"), at(3600, "stopped")], None)
    assert (found.device, found.productive) == ("gpu", pytest.approx(2))


def test_no_attempt_no_work():
    assert device_hours([], None) is None
