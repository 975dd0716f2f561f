"""Keyed dropout: masks are sliced by rank; outside training steps it equals torch's dropout."""

import pytest
import torch
from torch import nn

from medvq.models.draws import Draws
from medvq.models.dropout import convert_keyed_dropout, dropping

LAYERS = {
    "dropout": (nn.Dropout, (8, 3, 4, 5)),
    "flat": (nn.Dropout, (8, 40)),
    "1d": (nn.Dropout1d, (8, 30, 4)),
    "2d": (nn.Dropout2d, (8, 30, 4, 5)),
    "3d": (nn.Dropout3d, (8, 30, 2, 3, 4)),
}


def of_step(net, x, *share):
    with dropping(Draws(7, 3, *share)):
        return net(x)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_ranks_share_the_mask_of_the_global_batch(name, inplace):
    kind, shape = LAYERS[name]
    net = nn.Sequential(kind(0.3, inplace=inplace), kind(0.3, inplace=inplace))
    convert_keyed_dropout(net)
    whole = of_step(net, torch.ones(shape))
    parts = [of_step(net, torch.ones(4, *shape[1:]), rank, 2) for rank in range(2)]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole, of_step(net, torch.ones(shape)))
    assert sorted(set(whole.flatten().tolist())) == pytest.approx([0, 1 / 0.49], rel=1e-5)
    if name[0].isdigit():
        channels = whole.flatten(2)
        assert torch.equal(channels, channels[..., :1].expand_as(channels))
    with dropping(Draws(7, 4)):
        assert not torch.equal(whole, net(torch.ones(shape)))


def test_it_keeps_the_mean_and_as_many_as_it_says():
    net = nn.Sequential(nn.Dropout(0.25))
    convert_keyed_dropout(net)
    out = of_step(net, torch.ones(100, 1000))
    assert (out == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert out.mean() == pytest.approx(1, abs=0.01)


def test_a_layer_that_is_called_twice_draws_twice():
    layer = nn.Dropout(0.5)
    net = nn.Sequential(layer)
    convert_keyed_dropout(net)
    with dropping(Draws(0, 0)):
        assert not torch.equal(net(torch.ones(4, 100)), net(torch.ones(4, 100)))


def test_out_of_steps_of_training_it_is_torchs():
    net, stock = nn.Sequential(nn.Dropout(0.5)), nn.Sequential(nn.Dropout(0.5))
    convert_keyed_dropout(net)
    x = torch.ones(4, 100)
    torch.manual_seed(0)
    ours = net(x)
    torch.manual_seed(0)
    assert torch.equal(ours, stock(x))
    assert torch.equal(of_step(net.eval(), x), x)
    assert "p=0.5" in repr(net)


def test_everything_can_be_dropped():
    net = nn.Sequential(nn.Dropout(1.0))
    convert_keyed_dropout(net)
    assert not of_step(net, torch.ones(4, 100)).any()
