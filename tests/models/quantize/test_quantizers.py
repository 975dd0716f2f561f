"""Tests that every registered quantizer must pass."""

import copy

import pytest
import torch
import torch.nn.functional as F
from quantizer_cases import CASES, DIM, NEAREST

from medvq.models.draws import Draws
from medvq.registry import QUANTIZERS

everyone = pytest.mark.parametrize("name", sorted(QUANTIZERS))


def images(seed=0, batch=3, scale=1.0):
    return scale * torch.randn(batch, DIM, 4, 6, generator=torch.Generator().manual_seed(seed))


def made(name, seed=0):
    torch.manual_seed(seed)
    return CASES[name]()


def started(name, steps=1):
    """Return a quantizer after a few training steps."""
    quantizer = made(name)
    for step in range(steps):
        quantizer(images(step).requires_grad_(), Draws(0, step))
        quantizer.update(Draws(0, step))
    return quantizer


def state(quantizer):
    return {name: value.clone() for name, value in quantizer.state_dict().items()}


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_every_registered_quantizer_has_a_case_of_its_class():
    assert CASES.keys() == QUANTIZERS.keys()
    assert all(type(made(name)) is QUANTIZERS[name] for name in CASES)


@everyone
def test_shapes_and_types(name):
    quantizer, z = made(name), images().requires_grad_()
    out = quantizer(z, Draws(0, 0))
    assert out.z_q.shape == z.shape
    assert out.z_q.dtype == torch.float32
    assert out.indices.dtype == torch.int64
    assert out.indices.ndim == 3
    assert out.indices.shape[:2] == (3, 4)
    assert out.indices.shape[2] % 6 == 0
    assert int(out.indices.min()) >= 0
    assert int(out.indices.max()) < quantizer.codebook_size
    assert out.penalty.shape == ()
    assert all(loss.shape == () for loss in out.losses.values())


@everyone
def test_round_trip_from_index_to_code_is_exact(name):
    quantizer = started(name)
    for mode in (quantizer.train(), quantizer.eval()):
        out = mode(images(7), Draws(0, 1))
        assert torch.equal(mode.lookup(out.indices), out.z_q)


@pytest.mark.parametrize("name", NEAREST)
def test_every_code_is_its_own_nearest(name):
    quantizer = started(name, 3)
    width = quantizer(images()[:1], Draws(0, 9)).indices.shape[2]
    everything = torch.arange(quantizer.codebook_size)
    filled = everything.repeat(4 * width // quantizer.codebook_size + 1)[: 4 * width].view(1, 4, width)
    codes = quantizer.eval().lookup(filled)
    with torch.no_grad():
        assert torch.equal(quantizer.lookup(quantizer(codes).indices), codes)


@everyone
def test_wrong_channels_are_refused(name):
    with pytest.raises(ValueError, match=rf"expected \(B, {DIM}, H, W\)"):
        made(name)(torch.zeros(1, DIM + 1, 2, 2), Draws(0, 0))


@everyone
def test_gradient_of_the_output_reaches_the_input(name):
    quantizer, z = started(name), images(5).requires_grad_()
    weight = torch.randn_like(z)
    (quantizer(z, Draws(0, 1)).z_q * weight).sum().backward()
    assert z.grad is not None
    assert z.grad.abs().sum() > 0


@everyone
def test_evaluation_and_no_grad_change_nothing(name):
    quantizer = started(name)
    before = state(quantizer)
    with torch.no_grad():
        quantizer(images(2, scale=3), Draws(0, 2))
    quantizer.update(Draws(0, 2))
    quantizer.eval()(images(3, scale=3).requires_grad_(), Draws(0, 3))
    quantizer.update(Draws(0, 3))
    assert_same_state(state(quantizer), before)


@everyone
def test_a_training_pass_changes_nothing_before_the_update(name):
    quantizer = started(name)
    before = state(quantizer)
    quantizer(images(2).requires_grad_(), Draws(0, 2))
    assert_same_state(state(quantizer), before)


@everyone
def test_accumulated_passes_make_one_update(name):
    whole, parts = started(name), started(name)
    z = images(4, batch=4)
    whole(z.clone().requires_grad_(), Draws(0, 1))
    for half in z.split(2):
        parts(half.clone().requires_grad_(), Draws(0, 1))
    whole.update(Draws(0, 1))
    parts.update(Draws(0, 1))
    for key, value in state(whole).items():
        torch.testing.assert_close(state(parts)[key], value, rtol=1e-6, atol=1e-6)


@everyone
def test_activation_checkpointing_counts_a_pass_once(name):
    plain, saved = started(name), started(name)
    z = images(4).requires_grad_()

    def loss(z, quantizer):
        out = quantizer(z, Draws(0, 1))
        return F.mse_loss(out.z_q, torch.zeros_like(z)) + out.penalty

    loss(z, plain).backward()
    # Without early stop, backward repeats the whole forward pass.
    with torch.utils.checkpoint.set_checkpoint_early_stop(False):
        torch.utils.checkpoint.checkpoint(loss, z, saved, use_reentrant=False).backward()
    plain.update(Draws(0, 1))
    saved.update(Draws(0, 1))
    assert_same_state(state(saved), state(plain))


@everyone
def test_losses_do_not_depend_on_how_often_the_batch_is_repeated(name):
    quantizer, z = started(name).eval(), images(6)
    once, twice = quantizer(z), quantizer(torch.cat([z, z]))
    assert once.losses.keys() == twice.losses.keys()
    for key in once.losses:
        torch.testing.assert_close(once.losses[key], twice.losses[key])
    torch.testing.assert_close(once.penalty, twice.penalty)


@everyone
def test_state_dict_round_trip_goes_on_the_same_way(name):
    one = started(name, 2)
    other = made(name, seed=1)
    other.load_state_dict(state(one))
    for quantizer in (one, other):
        quantizer(images(8).requires_grad_(), Draws(0, 2))
        quantizer.update(Draws(0, 2))
    assert_same_state(state(other), state(one))


@everyone
def test_same_seed_same_everything(name):
    assert_same_state(state(started(name, 3)), state(started(name, 3)))


@everyone
def test_float32_inside_autocast(name):
    quantizer, z = started(name).eval(), images(9, batch=200)
    plain = quantizer(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = quantizer(z)
    assert torch.equal(mixed.indices, plain.indices)
    assert torch.equal(mixed.z_q, plain.z_q)
    low = quantizer(z.bfloat16())
    assert low.z_q.dtype == torch.bfloat16
    assert low.penalty.dtype == torch.float32
    assert torch.equal(low.indices, quantizer(z.bfloat16().float()).indices)


@everyone
@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_casting_the_model_leaves_the_state_float32(name, cast):
    quantizer = started(name)
    before = state(quantizer)
    model = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(1, 1, 1), "quantizer": quantizer})
    getattr(model, cast)()
    assert model["conv"].weight.dtype != torch.float32
    assert_same_state(state(quantizer), before)


@everyone
def test_memory_format_is_kept_and_does_not_matter(name):
    quantizer, z = started(name).eval(), images(1)
    plain, last = quantizer(z), quantizer(z.to(memory_format=torch.channels_last))
    assert plain.z_q.is_contiguous()
    assert last.z_q.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain.z_q, last.z_q)  # a projection may round differently
    assert torch.equal(plain.indices, last.indices)


@everyone
def test_frozen_codebook_does_not_learn(name):
    quantizer = started(name)
    before = {key: value for key, value in state(quantizer).items() if "project" not in key}
    quantizer.freeze()
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=1.0) if list(quantizer.parameters()) else None
    z = images(2).requires_grad_()
    out = quantizer(z, Draws(0, 1))
    (out.z_q.sum() + out.penalty).backward()
    if optimizer is not None:
        optimizer.step()
    quantizer.update(Draws(0, 1))
    assert z.grad is not None
    assert_same_state({key: state(quantizer)[key] for key in before}, before)


@everyone
def test_deep_copy_shares_nothing(name):
    quantizer = started(name)
    before, twin = state(quantizer), copy.deepcopy(quantizer)
    for value in twin.state_dict().values():
        value.zero_()
    assert_same_state(state(quantizer), before)
