"""Compare the VQ-VAE for brain slices with its published parameter counts and shapes."""

import pytest
import torch

from medvq.errors import UsageError
from medvq.models.build import build
from medvq.models.count import count, layers
from medvq.models.norm import GlobalBatchNorm2d
from medvq.models.quantize.gradient import GradientQuantizer
from medvq.models.vqvae.settings import VQVAESettings

REPORT = VQVAESettings(residual_blocks=0, relu_codes=True)


def meta(config=None, sides=(256, 256)):
    with torch.device("meta"):
        return build(config or VQVAESettings(), input_shape=(1, *sides))


@pytest.mark.parametrize(
    ("config", "total"),
    [(VQVAESettings(), 1_717_121), (REPORT, 1_058_689), (VQVAESettings(residual_blocks=0), 1_058_689)],
)
def test_published_parameter_counts(config, total):
    counts = count(meta(config))
    assert counts.total == counts.trainable == total
    assert counts.modules["quantizer"] == 4096


@pytest.mark.parametrize(("sides", "grid"), [((256, 256), (32, 32)), ((240, 256), (30, 32))])
def test_grid_and_image_of_both_studies(sides, grid):
    found = {layer.name: layer.shape for layer in layers(meta(sides=sides), (1, *sides))}
    assert found["quantizer"] == (128, *grid)
    assert list(found.values())[-1] == (1, *sides)


def test_parts_have_the_counts_of_the_specification():
    found = {layer.name: layer.parameters for layer in layers(meta(REPORT), (1, 256, 256))}
    encoder = [n for name, n in found.items() if name.startswith("encoder") and n]
    decoder = [n for name, n in found.items() if name.startswith("decoder") and n]
    assert encoder == [2_176, 256, 262_272, 256, 262_272, 256]
    assert decoder == [262_272, 256, 262_272, 256, 2_049]
    block = next(m for m in meta().encoder if type(m).__name__ == "NormedResidual")
    assert sum(p.numel() for p in block.parameters()) == 164_608


def test_codebook_is_a_parameter_that_starts_within_one_over_k():
    model = build(VQVAESettings(), input_shape=(1, 16, 16))
    assert isinstance(model.quantizer, GradientQuantizer)
    assert model.quantizer.codebook.shape == (32, 128)
    assert model.quantizer.codebook.abs().max() <= 1 / 32


def test_encoder_outputs_lie_on_both_sides_of_zero_unless_as_published():
    for config, both in ((VQVAESettings(), True), (VQVAESettings(residual_blocks=0), True), (REPORT, False)):
        torch.manual_seed(0)
        out = build(config, input_shape=(1, 16, 16)).encoder(torch.rand(2, 1, 16, 16))
        assert bool((out < 0).any()) is both


def test_the_pick_is_the_nearest_code_unless_norms_weigh_less_as_published():
    rng = torch.Generator().manual_seed(0)
    z, codes = torch.randn(3, 8, 4, 4, generator=rng), torch.randn(16, 8, generator=rng)
    codes *= torch.linspace(0.2, 2, 16)[:, None]  # different lengths
    for weight, names in ((1.0, ()), (0.3, ("norms_weigh_less",))):
        config = VQVAESettings(code_dim=8, channels=8, codebook_size=16)
        quantizer = build(config, input_shape=(1, 16, 16), as_published=names).quantizer
        with torch.no_grad():
            quantizer.codebook.copy_(codes)
        rows = z.permute(0, 2, 3, 1).reshape(-1, 1, 8).double()
        norms = rows.square().sum(-1) + codes.double().square().sum(-1)
        expected = (weight * norms - 2 * (rows * codes.double()).sum(-1)).argmin(1)
        found = quantizer(z)
        assert found.indices.flatten().tolist() == expected.tolist()
        assert torch.equal(found.z_q, quantizer.lookup(found.indices))


@pytest.mark.parametrize(("output", "low", "high"), [("tanh", -1, 1), ("sigmoid", 0, 1)])
def test_last_activation_spans_the_declared_range(output, low, high):
    model = build(VQVAESettings(channels=8, code_dim=8, output=output), input_shape=(1, 16, 16)).eval()
    with torch.no_grad():
        images = model.decode(1e4 * torch.randn(4, 8, 2, 2))
    assert images.min() < low + 0.01
    assert images.max() > high - 0.01
    assert low <= images.min()
    assert images.max() <= high


def test_convolutions_start_xavier_uniform_without_bias():
    torch.manual_seed(0)
    model = build(VQVAESettings(), input_shape=(1, 16, 16))
    conv = model.encoder[3]
    bound = (6 / (2 * 128 * 16)) ** 0.5
    assert 0.99 * bound < conv.weight.abs().max() <= bound
    assert not conv.bias.any()


def test_sides_that_are_not_multiples_of_eight_are_refused():
    with pytest.raises(UsageError, match="multiples of 8"):
        meta(sides=(256, 250))


def test_batch_norm_is_the_stock_one_on_one_rank():
    torch.manual_seed(0)
    ours, stock = GlobalBatchNorm2d(3), torch.nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(ours(x), stock(x))
    assert torch.equal(ours.running_var, stock.running_var)
    assert torch.equal(ours.eval()(x), stock.eval()(x))
