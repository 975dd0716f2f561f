"""Compare the stacked VQ-VAE with the published parameter counts, shapes and connections."""

import pytest
import torch

from medvq.errors import UsageError
from medvq.models.build import build
from medvq.models.count import count, layers
from medvq.models.draws import Draws
from medvq.models.quantize.ema import EMAQuantizer
from medvq.models.svqvae.blocks import TwoLevelVQVAE
from medvq.models.svqvae.settings import SVQVAESettings

TINY = SVQVAESettings(levels=2, channels=8, residual_blocks=1, residual_channels=4, codebook_size=16)


def meta(config=None, size=512, classes=5):
    with torch.device("meta"):
        return build(config or SVQVAESettings(), input_shape=(3, size, size), classes=classes)


def test_published_parameter_counts():
    counts = count(meta())
    assert counts.total == counts.trainable == 3_054_644
    assert counts.modules == {"models.0": 961_935, "models.1": 963_984, "models.2": 963_984, "classifier": 164_741}
    assert counts.buffers == 15_360
    assert counts.not_counted == {}
    assert len(list(meta().parameters())) == 180


@pytest.mark.parametrize(("size", "total"), [(256, 2_906_804), (128, 2_892_884)])
def test_only_the_head_changes_with_the_image_size(size, total):
    assert count(meta(size=size)).total == total


def test_committed_script_setting():
    assert count(meta(SVQVAESettings(residual_blocks=4, residual_channels=64, code_dim=3))).total == 6_215_363


@pytest.mark.parametrize("size", [64, 192, 100, 63])
def test_sides_that_leave_no_grid_are_refused(size):
    with pytest.raises(UsageError, match="multiples of 128"):
        meta(size=size)


def test_upstream_default_block_has_its_published_count():
    block = TwoLevelVQVAE(3, quantizer=lambda name: EMAQuantizer(512, 64, name=name))
    assert sum(p.numel() for p in block.parameters()) == 1_388_867


def test_parts_have_the_shapes_and_counts_of_the_specification():
    found = {layer.name: layer for layer in layers(meta(), (3, 512, 512))}
    shapes = {
        "models.0.enc_b.4": (128, 128, 128),
        "models.0.quantize_t": (2, 64, 64),
        "models.0.quantize_b": (2, 128, 128),
        "models.0.upsample_t": (2, 128, 128),
        "models.0.dec.6": (3, 512, 512),
        "models.2.quantize_t": (2, 4, 4),
        "models.2.upsample_t": (2, 8, 8),
        "classifier.1": (512,),
        "classifier.5": (5,),
    }
    assert {name: found[name].shape for name in shapes} == shapes
    part = dict.fromkeys(("enc_b", "enc_t", "quantize_conv_t", "dec_t", "quantize_conv_b", "upsample_t", "dec"), 0)
    for name, layer in found.items():
        level, number, place, *_ = [*name.split("."), "", ""]
        if (level, number) == ("models", "0") and place in part:
            part[place] += layer.parameters
    assert list(part.values()) == [364_160, 287_232, 258, 88_770, 262, 66, 221_187]


def test_shapes_of_codes_indices_and_reconstructions():
    model = build(TINY, input_shape=(3, 64, 96), classes=5)
    out = model(torch.rand(2, 3, 64, 96), draws=Draws(0, 0))
    assert [code.shape for code in out.codes] == [(2, 4, 16, 24), (2, 4, 4, 6)]
    assert out.code is out.codes[-1]
    assert model.head(out.code).shape == (2, 5)
    assert {name: tuple(i.shape) for name, i in out.indices.items()} == {
        "level0/top": (2, 8, 12),
        "level0/bottom": (2, 16, 24),
        "level1/top": (2, 2, 3),
        "level1/bottom": (2, 4, 6),
    }
    assert all(i.dtype == torch.int64 for i in out.indices.values())
    assert [image.shape for image in out.images] == [(2, 3, 64, 96)] * 2
    assert set(out.losses) == {"commitment/level0", "commitment/level1"}
    assert len(out.penalties) == 2


def test_fewer_levels_leave_the_upper_ones_alone():
    model = build(TINY, input_shape=(3, 32, 32))
    out = model(torch.rand(2, 3, 32, 32), levels=1, draws=Draws(0, 0))
    (out.images[0].mean() + out.penalties[0]).backward()
    model.update_codebooks(Draws(0, 0))
    assert len(out.images) == 1
    assert set(out.indices) == {"level0/top", "level0/bottom"}
    assert all(p.grad is None for p in model.level_parameters(1))
    assert all(p.grad is not None for p in model.level_parameters(0))
    started = {name: bool(q.initted) for name, q in model.quantizers().items()}
    assert started == {"level0/top": True, "level0/bottom": True, "level1/top": False, "level1/bottom": False}


def test_no_gradient_flows_into_the_target_of_a_stacked_level():
    model = build(TINY, input_shape=(3, 32, 32))
    out = model(torch.rand(2, 3, 32, 32), draws=Draws(0, 0), target="inputs")
    assert [image.shape for image in out.images] == [target.shape for target in out.targets]
    assert torch.equal(out.targets[1], out.codes[0])
    assert not any(t.requires_grad for t in out.targets)
    # The decoder of level 0 affects this loss only through the target, so it must not get a gradient.
    decoder = list(model.models[0].dec.parameters())
    loss = (out.images[1] - out.targets[1]).square().mean()
    assert all(g is None for g in torch.autograd.grad(loss, decoder, allow_unused=True))


def test_penalties_are_beta_times_the_commitment_of_both_codebooks():
    model = build(TINY.model_copy(update={"beta": 0.7, "init": "normal"}), input_shape=(3, 32, 32))
    out = model(torch.rand(2, 3, 32, 32), draws=Draws(0, 0))
    for i, penalty in enumerate(out.penalties):
        torch.testing.assert_close(penalty, 0.7 * out.losses[f"commitment/level{i}"])


def test_indices_decode_to_the_same_image():
    model = build(TINY, input_shape=(3, 32, 32))
    model(torch.rand(4, 3, 32, 32), draws=Draws(0, 0))
    model.eval()
    with torch.no_grad():
        out = model(torch.rand(2, 3, 32, 32))
        torch.testing.assert_close(model.decode_indices(out.indices), out.images[-1], rtol=0, atol=1e-6)
        lower = {name: i for name, i in out.indices.items() if name.startswith("level0")}
        torch.testing.assert_close(model.decode_indices(lower), out.images[0], rtol=0, atol=1e-6)


def test_joint_code_is_the_upsampled_top_then_the_bottom():
    model = build(TINY, input_shape=(3, 32, 32)).eval()
    level = model.models[0]
    with torch.no_grad():
        code = level.encode(torch.rand(2, 3, 32, 32))
        assert torch.equal(code.joint[:, :2], level.upsample_t(code.top.z_q))
        assert torch.equal(code.joint[:, 2:], code.bottom.z_q)


@pytest.mark.parametrize("choice", ["gradient", "cosine", "grouped", "fsq"])
def test_any_quantizer_fits(choice):
    extra = {"groups": 2} if choice == "grouped" else {}
    config = TINY.model_dump() | {"code_dim": 4, "quantizer": {"name": choice, **extra}}
    model = build(SVQVAESettings.model_validate(config), input_shape=(3, 32, 32), classes=5)
    out = model(torch.rand(2, 3, 32, 32), draws=Draws(0, 0))
    (sum(image.mean() for image in out.images) + sum(out.penalties)).backward()
    model.update_codebooks(Draws(0, 0))
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.startswith("classifier"))
    assert out.indices.keys() == model.quantizers().keys()
    kinds = {"gradient": {"commitment", "codebook"}, "fsq": set()}.get(choice, {"commitment"})
    assert set(out.losses) == {f"{kind}/level{i}" for kind in kinds for i in (0, 1)}
    with torch.no_grad():
        again = model.eval()(torch.rand(2, 3, 32, 32))
        torch.testing.assert_close(model.decode_indices(again.indices), again.images[-1], rtol=0, atol=1e-6)


def test_head_needs_classes():
    with pytest.raises(UsageError, match="no classifier"):
        build(TINY, input_shape=(3, 32, 32)).head(torch.zeros(1, 4, 2, 2))


def test_unknown_model_is_a_usage_error():
    with pytest.raises(UsageError, match="unknown model"):
        build(TINY.model_copy(update={"name": "svqvea"}), input_shape=(3, 32, 32))
