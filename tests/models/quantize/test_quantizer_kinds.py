"""Properties that single kinds of quantizers have. The EMA codebook has its own file."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medvq.config.identity import plain
from medvq.models.draws import Draws
from medvq.models.quantize.build import make_quantizer
from medvq.models.quantize.cosine import CosineQuantizer
from medvq.models.quantize.ema import EMAQuantizer
from medvq.models.quantize.fsq import FSQuantizer
from medvq.models.quantize.gradient import GradientQuantizer
from medvq.models.quantize.grouped import GroupedQuantizer
from medvq.models.quantize.settings import CodebookSettings
from medvq.models.svqvae.settings import SVQVAESettings
from medvq.models.vqvae.settings import VQVAESettings
from medvq.registry import QUANTIZERS


def image(dim, batch=2, seed=0):
    return torch.randn(batch, dim, 3, 5, generator=torch.Generator().manual_seed(seed))


def test_gradient_codebook_loss_is_the_codes_and_commitment_the_encoders():
    quantizer, z = GradientQuantizer(8, 3, beta=0.5, init="normal"), image(3).requires_grad_()
    out = quantizer(z)
    expected = (z - quantizer.lookup(out.indices)).square().mean()
    torch.testing.assert_close(out.losses["commitment"], expected)
    torch.testing.assert_close(out.losses["codebook"], expected)
    torch.testing.assert_close(out.penalty, 1.5 * expected)
    of_codes = torch.autograd.grad(
        out.losses["codebook"], [quantizer.codebook, z], retain_graph=True, allow_unused=True
    )
    of_encoder = torch.autograd.grad(out.losses["commitment"], [quantizer.codebook, z], allow_unused=True)
    of_penalty = torch.autograd.grad(quantizer(z).penalty, [quantizer.codebook, z])
    torch.testing.assert_close(of_penalty[0], of_codes[0])
    torch.testing.assert_close(of_penalty[1], 0.5 * of_encoder[1])
    assert of_codes[0].abs().sum() > 0
    assert of_codes[1] is None or not of_codes[1].any()
    assert of_encoder[0] is None or not of_encoder[0].any()
    assert of_encoder[1].abs().sum() > 0


def test_reconstruction_does_not_move_a_gradient_codebook():
    quantizer, z = GradientQuantizer(8, 3, init="normal"), image(3).requires_grad_()
    quantizer(z).z_q.sum().backward()
    assert quantizer.codebook.grad is None or not quantizer.codebook.grad.any()


def test_gradient_codebook_starts_uniform_within_one_over_k():
    codes = GradientQuantizer(32, 128).codebook
    assert codes.shape == (32, 128)
    assert 0.9 / 32 < codes.abs().max() <= 1 / 32


def test_cosine_codes_are_unit_vectors_and_the_choice_ignores_length():
    quantizer = CosineQuantizer(16, 8, dim=3)
    with torch.no_grad():
        quantizer.project_in.bias.zero_()
    for step in range(5):
        quantizer(image(8, 8, step).requires_grad_(), Draws(0, step))
        torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(16))
        quantizer.update(Draws(0, step))
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(16))
    quantizer.eval()
    z = image(8, 8, 9)
    out = quantizer(z)
    longer = quantizer(16 * z)
    assert torch.equal(out.indices, longer.indices)
    torch.testing.assert_close(out.losses, longer.losses)
    rows = F.normalize(quantizer.project_in(z), dim=1).permute(0, 2, 3, 1).reshape(-1, 3)
    assert torch.equal((rows @ quantizer.codebook.t()).argmax(1), out.indices.flatten())
    assert out.losses["commitment"] <= 4 / 3


def test_cosine_projections_learn_from_the_reconstruction():
    quantizer = CosineQuantizer(16, 8, dim=3, init="normal")
    quantizer(image(8).requires_grad_()).z_q.square().sum().backward()
    for layer in (quantizer.project_in, quantizer.project_out):
        assert layer.weight.grad.abs().sum() > 0


def test_groups_are_the_same_codes_as_quantizing_each_part_alone():
    inner = EMAQuantizer(16, 2, init="normal")
    quantizer = GroupedQuantizer(inner, 4).eval()
    z = image(8)
    out = quantizer(z)
    assert out.indices.shape == (2, 3, 20)
    for group in range(4):
        alone = inner(z[:, 2 * group : 2 * group + 2])
        assert torch.equal(out.z_q[:, 2 * group : 2 * group + 2], alone.z_q)
        # Ordered by row, column and group.
        assert torch.equal(out.indices[:, :, group::4], alone.indices)


def test_groups_of_the_skin_lesion_study_give_its_printed_sizes():
    out = GroupedQuantizer(EMAQuantizer(512, 64, init="normal"), 4).eval()(torch.randn(16, 256, 8, 8))
    assert out.indices.numel() == 4096
    assert out.z_q.shape == (16, 256, 8, 8)


LEVELS = st.lists(st.integers(2, 6), min_size=1, max_size=4)


@given(LEVELS)
@settings(max_examples=30, deadline=None)
def test_every_index_is_reachable_and_stands_for_one_code(levels):
    quantizer = FSQuantizer(levels, len(levels)).eval()
    total = math.prod(levels)
    everything = torch.arange(total).view(1, 1, total)
    codes = quantizer.lookup(everything)
    assert quantizer.codebook_size == total == len(codes[0, :, 0].t().unique(dim=0))
    assert codes.abs().max() == 1
    # Inverse of tanh, slightly inside (−1, 1), where it is finite.
    out = quantizer(torch.atanh(codes * 0.999))
    assert torch.equal(out.indices, everything)
    assert torch.equal(out.z_q, codes)


@given(LEVELS, st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_each_number_goes_to_the_nearest_level(levels, seed):
    z = image(len(levels), seed=seed)
    codes = FSQuantizer(levels, len(levels)).eval()(z).z_q
    for d, count in enumerate(levels):
        grid = torch.linspace(-1, 1, count)
        bounded = torch.tanh(z[:, d])
        torch.testing.assert_close((codes[:, d] - bounded).abs(), (bounded[..., None] - grid).abs().amin(-1))


def test_two_levels_split_at_zero():
    z = torch.tensor([-3.0, -0.1, 0.1, 3.0]).view(1, 1, 1, 4)
    assert FSQuantizer((2,), 1).eval()(z).z_q.flatten().tolist() == [-1, -1, 1, 1]


def test_fsq_indices_are_right_where_bfloat16_cannot_count():
    quantizer = FSQuantizer((8, 5, 5, 5), 4).bfloat16()
    bounded = 1.998 * torch.rand(64, 4, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.999
    out = quantizer(torch.atanh(bounded).bfloat16())
    assert len(out.indices.unique()) > 0.9 * quantizer.codebook_size


def test_fsq_gradient_is_that_of_the_bound():
    quantizer, z = FSQuantizer((4, 5), 2), image(2).requires_grad_()
    quantizer(z).z_q.sum().backward()
    torch.testing.assert_close(z.grad, (1 - torch.tanh(z.detach()).square()))


@pytest.mark.parametrize("levels", [(), (1, 4)])
def test_fsq_refuses_a_dimension_without_levels(levels):
    with pytest.raises(ValueError, match="two levels"):
        FSQuantizer(levels, 2)


CHOICES = [{"name": name} for name in ("ema", "gradient", "cosine", "grouped", "fsq")]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice["name"])
def test_a_configuration_builds_the_quantizer_it_names(choice):
    config = CodebookSettings(
        name="any", codebook_size=16, code_dim=8, beta=0.7, decay=0.5, init="normal", quantizer=choice
    )
    quantizer = make_quantizer(config, "level0")
    assert type(quantizer) is QUANTIZERS[choice["name"]]
    assert (quantizer.code_dim, quantizer.name) == (8, "level0")
    assert quantizer(image(8).requires_grad_(), Draws(0, 0)).z_q.shape == (2, 8, 3, 5)
    learnt = getattr(quantizer, "codes", quantizer)
    if choice["name"] != "fsq":
        assert (learnt.codebook_size, learnt.beta, learnt.decay, learnt.init) == (16, 0.7, 0.5, "normal")


def test_default_quantizers_leave_no_trace_in_identities():
    assert "quantizer" not in plain(SVQVAESettings())
    assert "quantizer" not in plain(SVQVAESettings(quantizer={"name": "ema"}))
    assert "quantizer" not in plain(VQVAESettings())
    assert plain(SVQVAESettings(quantizer={"name": "cosine"}))["quantizer"] == {"name": "cosine", "dim": 16}
    assert plain(VQVAESettings(quantizer={"name": "ema"}))["quantizer"] == {"name": "ema"}


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValidationError, match="4 groups do not divide"):
        CodebookSettings(name="any", code_dim=6, quantizer={"name": "grouped", "groups": 4})
