"""TensorBoard's curves have the values of the events, and no point twice however often a run was stopped."""

import pytest

from medvq.runs import events


def curves(runs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(runs.folder("pretrain").tensorboard), size_guidance={"scalars": 0}).Reload()
    return {tag: [(p.step, p.value) for p in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_curves_are_drawn_once_and_say_what_the_events_say(small):
    alone, stopped = (small(name, sets=["train.epochs=6"]) for name in ("alone", "stopped"))
    alone.do()
    for stop in (1, 3, 9):
        stopped.do(stop_after=stop)
    stopped.do()
    whole, pieces = curves(alone), curves(stopped)
    for name, points in whole.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)) == [step for step, _ in pieces[name]], name
    for epoch in events.epochs(events.read(alone.folder("pretrain").events)):
        for name, value in epoch["metrics"].items():
            assert dict(whole[name])[epoch["step"]] == pytest.approx(value, rel=1e-6)
            assert dict(pieces[name])[epoch["step"]] == pytest.approx(value, rel=1e-6)
    assert [step for step, _ in whole["step/lr"]] == [10, 20]
    assert [lr for _, lr in whole["step/lr"]] == pytest.approx([0.75e-3, 0.25e-3])  # a cosine over six epochs
