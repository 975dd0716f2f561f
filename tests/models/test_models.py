"""Tests that every registered model must pass."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from medvq.config.settings import model_settings
from medvq.models.build import build
from medvq.models.count import count, layers
from medvq.models.draws import Draws
from medvq.models.svqvae.settings import SVQVAESettings
from medvq.models.vqvae.settings import VQVAESettings
from medvq.registry import MODELS

SIZE = 32
CASES = {
    "svqvae": (
        SVQVAESettings(levels=2, channels=8, residual_blocks=1, residual_channels=4, codebook_size=16),
        (3, SIZE, SIZE),
    ),
    "vqvae": (VQVAESettings(channels=8, code_dim=8, residual_blocks=1), (1, SIZE, SIZE)),
}
everyone = pytest.mark.parametrize("name", sorted(MODELS))


def made(name, seed=0):
    config, shape = CASES[name]
    torch.manual_seed(seed)
    return build(config, input_shape=shape)


def images(name, seed=0, batch=4):
    return torch.rand(batch, *CASES[name][1], generator=torch.Generator().manual_seed(seed))


def loss_of(out):
    return sum(F.mse_loss(i, t) + p for i, t, p in zip(out.images, out.targets, out.penalties, strict=True))


def trained(name, steps=2, seed=0):
    model = made(name, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model(images(name, step), draws=Draws(0, step))).backward()
        optimizer.step()
        model.update_codebooks(Draws(0, step))
    return model


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_models_and_their_configurations_are_registered_together():
    assert MODELS.keys() == CASES.keys()
    assert all(model_settings(name).model_fields["name"].default == name for name in MODELS)


@everyone
def test_shapes(name):
    model, x = made(name), images(name)
    out = model(x, draws=Draws(0, 0))
    assert len(out.images) == len(out.targets) == len(out.penalties) == len(out.codes) == model.levels
    assert all(image.shape == x.shape for image in out.images)
    assert all(torch.equal(target, x) and not target.requires_grad for target in out.targets)
    assert out.indices.keys() == model.quantizers().keys()
    assert all(i.dtype == torch.int64 and i.ndim == 3 and len(i) == 4 for i in out.indices.values())


@everyone
def test_every_parameter_gets_a_finite_gradient(name):
    model = trained(name)
    model.zero_grad()
    loss_of(model(images(name, 5), draws=Draws(0, 5))).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@everyone
def test_indices_decode_to_the_reconstruction(name):
    model = trained(name).eval()
    with torch.no_grad():
        out = model(images(name, 3))
        torch.testing.assert_close(model.decode_indices(out.indices), out.images[-1], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model.decode(out.code), out.images[-1], rtol=1e-5, atol=1e-6)


@everyone
def test_evaluation_changes_nothing(name):
    model = trained(name)
    before = state(model)
    model.eval()
    loss_of(model(images(name, 7)))
    model.update_codebooks(Draws(0, 7))
    assert_same_state(state(model), before)


@everyone
def test_evaluation_of_an_image_does_not_depend_on_its_batch(name):
    model, x = trained(name).eval(), images(name, 3)
    with torch.no_grad():
        alone, together = model(x[:1]), model(x)
    for key, indices in alone.indices.items():
        assert torch.equal(indices, together.indices[key][:1]), key
    torch.testing.assert_close(alone.images[-1], together.images[-1][:1], rtol=1e-4, atol=1e-5)


@everyone
def test_state_dict_round_trip_goes_on_the_same_way(name):
    one, other = trained(name), made(name, seed=1)
    other.load_state_dict(state(one))
    for model in (one, other):
        loss_of(model(images(name, 8), draws=Draws(0, 8))).backward()
        model.update_codebooks(Draws(0, 8))
    assert_same_state(state(one), state(other))


@everyone
def test_same_seed_same_everything(name):
    assert_same_state(state(trained(name)), state(trained(name)))


@everyone
def test_frozen_codebooks_stay(name):
    model = trained(name)
    model.freeze_codebooks()
    before = {key: state(quantizer) for key, quantizer in model.quantizers().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.1)
    loss_of(model(images(name, 9), draws=Draws(0, 9))).backward()
    optimizer.step()
    model.update_codebooks(Draws(0, 9))
    for key, quantizer in model.quantizers().items():
        assert_same_state(state(quantizer), before[key])


@everyone
def test_training_lowers_the_loss(name):
    model = made(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for step in range(30):
        optimizer.zero_grad()
        loss = loss_of(model(images(name), draws=Draws(0, step)))
        loss.backward()
        optimizer.step()
        model.update_codebooks(Draws(0, step))
        history.append(float(loss.detach()))
    assert history[-1] < 0.7 * history[0]


@everyone
def test_layers_are_listed_without_computing_and_add_up(name):
    model = made(name)
    found = layers(model, CASES[name][1])
    assert sum(layer.parameters for layer in found) == count(model).total == sum(count(model).modules.values())
    assert found[0].shape[1:] <= (SIZE, SIZE)
    assert next(iter(model.state_dict().values())).device.type == "cpu"


def test_importing_the_package_does_not_import_torch():
    names = "medvq.models, medvq.models.svqvae.settings, medvq.models.vqvae.settings"
    code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
