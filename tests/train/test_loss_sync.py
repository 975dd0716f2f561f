"""LossSync: means over steps, and stops and failures that take effect at the same step on all ranks."""

import pytest
import torch

from medvq.train.loss_sync import LossSync, NonFiniteLossError
from medvq.train.world import World


def losses(*values):
    return {f"l{i}": torch.tensor(v) for i, v in enumerate(values)}


def test_means_are_of_all_steps():
    pulse = LossSync(World(), lag=2)
    for step, value in enumerate((1.0, 2.0, 6.0)):
        pulse.send(step, losses(value, 10 * value), stop=False)
        pulse.stop_now(step)
    assert pulse.end_epoch() == {"l0": 3.0, "l1": 30.0}
    assert pulse.steps == 0


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_a_stop_takes_effect_lag_steps_later_even_if_it_was_read_before(lag):
    pulse = LossSync(World(), lag=lag)
    stopped = []
    for step in range(6):
        pulse.send(step, losses(1.0), stop=step >= 1)
        if step == 2:
            pulse.state()  # a checkpoint on rank 0 reads ahead
        stopped.append(pulse.stop_now(step))
    assert stopped.index(True) == 1 + lag


def test_a_loss_that_is_not_finite_names_itself_and_its_step():
    pulse = LossSync(World(), lag=1)
    pulse.send(0, losses(1.0, 1.0), stop=False)
    assert not pulse.stop_now(0)
    pulse.send(1, losses(1.0, float("nan")), stop=False)
    pulse.flush()
    assert pulse.failing, "no checkpoint is to be written any more"
    assert not pulse.stop_now(1)
    pulse.send(2, losses(1.0, 1.0), stop=False)
    with pytest.raises(NonFiniteLossError) as e:
        pulse.stop_now(2)
    assert (e.value.step, e.value.names) == (1, ["l1"])


def test_sums_survive_a_checkpoint():
    first, second = LossSync(World(), lag=1), LossSync(World(), lag=1)
    for step in range(4):
        first.send(step, losses(float(step)), stop=False)
    second.load(first.state())
    for pulse in (first, second):
        pulse.send(4, losses(4.0), stop=False)
    assert first.end_epoch() == second.end_epoch() == {"l0": 2.0}
