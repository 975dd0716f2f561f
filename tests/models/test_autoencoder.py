"""The interface `Autoencoder`, on a model without codebooks, and on every registered model."""

import pytest
import torch
from test_models import everyone, images, made, trained
from torch import nn

from medvq.errors import UsageError
from medvq.models.autoencoder import Autoencoder, Encoded


class Tiny(Autoencoder):
    """Two stacked levels without codebooks; each halves the sides with one convolution."""

    levels = 2

    def __init__(self, penalties=False):
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 5, 2, 2)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(4, 3, 2, 2), nn.ConvTranspose2d(5, 4, 2, 2)])
        self.penalties = penalties

    def encode(self, x, levels=None, draws=None):
        """Encode images x (B, 3, H, W)."""
        codes = []
        for layer in self.down[:levels]:
            codes.append(layer(codes[-1] if codes else x))
        return Encoded(codes=codes, penalties=[c.square().mean() for c in codes] if self.penalties else [])

    def decode(self, code, level=-1, to=0):
        """Decode a code of `level`."""
        for i in range(level % self.levels, to - 1, -1):
            code = self.up[i](code)
        return code


class WithHead(Tiny):
    """Tiny with a classifier head."""

    def head(self, code):
        """Return logits (B, 5)."""
        return code.mean((2, 3))


@pytest.fixture
def x():
    """Images (2, 3, 8, 8) that require gradients."""
    return torch.rand(2, 3, 8, 8).requires_grad_()


def test_every_level_reconstructs_the_image_by_default(x):
    model = Tiny()
    out = model(x)
    assert [tuple(code.shape) for code in out.codes] == [(2, 4, 4, 4), (2, 5, 2, 2)]
    assert torch.equal(out.code, out.codes[1])
    assert torch.equal(out.images[0], model.up[0](out.codes[0]))
    assert torch.equal(out.images[1], model.up[0](model.up[1](out.codes[1])))
    assert all(torch.equal(target, x) for target in out.targets)
    assert not any(target.requires_grad for target in out.targets)
    assert out.losses == out.indices == {}


def test_with_target_inputs_each_level_reconstructs_its_own_input(x):
    model = Tiny()
    out = model(x, target="inputs")
    assert torch.equal(out.images[1], model.up[1](out.codes[1]))
    assert [tuple(image.shape) for image in out.images] == [(2, 3, 8, 8), (2, 4, 4, 4)]
    assert torch.equal(out.targets[0], x)
    assert torch.equal(out.targets[1], out.codes[0])
    assert not any(target.requires_grad for target in out.targets)


@pytest.mark.parametrize("target", ["pixels", "inputs"])
def test_levels_limits_what_is_encoded_and_decoded(x, target):
    model = Tiny()
    whole, part = model(x, target=target), model(x, levels=1, target=target)
    assert len(part.codes) == len(part.images) == len(part.targets) == 1
    assert torch.equal(part.images[0], whole.images[0])


def test_the_penalty_is_zero_without_penalties(x):
    out = Tiny().double()(x.double())
    for level in (0, 1, -1):
        penalty = out.penalty(level)
        assert (penalty.item(), penalty.shape, penalty.dtype) == (0, (), torch.float64)
    out = Tiny(penalties=True)(x)
    assert [out.penalty(i).item() for i in (0, 1)] == [code.square().mean().item() for code in out.codes]


def test_reconstruct_decodes_the_deepest_code(x):
    model = Tiny()
    assert torch.equal(model.reconstruct(x), model(x).images[-1])


def test_only_a_model_with_a_head_has_one(x):
    model = Tiny()
    assert not model.has_head
    with pytest.raises(UsageError, match="a Tiny has no classifier head") as e:
        model.head(model.encode(x).code)
    assert "svqvae" in e.value.hint
    model = WithHead()
    assert model.has_head
    assert model.head(model.encode(x).code).shape == (2, 5)


@pytest.mark.parametrize("missing", ["encode", "decode"])
def test_a_subclass_must_implement_both_directions(missing):
    methods = {"encode": Tiny.encode, "decode": Tiny.decode}
    del methods[missing]
    with pytest.raises(TypeError, match=missing):
        type("Half", (Autoencoder,), methods)()


@everyone
def test_reconstruct_of_a_registered_model_is_its_last_image(name):
    model, batch = trained(name).eval(), images(name, 3)
    with torch.no_grad():
        found, out = model.reconstruct(batch), model(batch)
    assert torch.equal(found, out.images[-1])


@everyone
def test_a_registered_model_has_a_head_only_with_classes(name):
    model = made(name)
    assert not model.has_head
    with pytest.raises(UsageError, match="no classifier head") as e:
        model.head(model.eval().encode(images(name)).code)
    assert e.value.hint
