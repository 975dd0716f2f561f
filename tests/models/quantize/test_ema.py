"""Compare the EMA codebook with numpy; test its initialisation from data and the revival of dead codes."""

import numpy as np
import pytest
import torch

from medvq.errors import MedvqError
from medvq.models.draws import Draws
from medvq.models.quantize.ema import EMAQuantizer
from medvq.models.quantize.kernels import nearest_codes
from medvq.models.quantize.kmeans import kmeans, start_codes


def grid(vectors):
    """Return vectors (N, D) as (1, D, 1, N)."""
    return torch.as_tensor(vectors, dtype=torch.float32).t()[None, :, None, :].contiguous()


def train_step(quantizer, vectors, step=0):
    quantizer(grid(vectors).requires_grad_(), Draws(0, step))
    quantizer.update(Draws(0, step))


def test_update_equals_the_formula_of_the_specification():
    rng = np.random.default_rng(0)
    codes, decay, eps = rng.normal(size=(6, 3)), 0.9, 0.5
    quantizer = EMAQuantizer(6, 3, decay=decay, eps=eps, init="normal", revive=0)
    quantizer.codebook.copy_(torch.as_tensor(codes))
    quantizer.sums.copy_(torch.as_tensor(codes))
    counts, sums = np.ones(6), codes.copy()
    for step in range(5):
        z = rng.normal(size=(40, 3)).astype(np.float32)
        choice = ((z[:, None] - codes[None]) ** 2).sum(-1).argmin(1)
        train_step(quantizer, z, step)
        for k in range(6):
            counts[k] = decay * counts[k] + (1 - decay) * (choice == k).sum()
            sums[k] = decay * sums[k] + (1 - decay) * z[choice == k].sum(0)
        n = counts.sum()
        codes = sums / ((counts + eps) / (n + 6 * eps) * n)[:, None]
        np.testing.assert_allclose(quantizer.counts, counts, rtol=1e-5)
        np.testing.assert_allclose(quantizer.codebook, codes, rtol=1e-4, atol=1e-5)


def test_codebook_is_codes_by_dimension():
    quantizer = EMAQuantizer(32, 128)
    assert quantizer.codebook.shape == quantizer.sums.shape == (32, 128)
    assert quantizer.counts.shape == (32,)


def test_statistics_are_one_float32_sum(monkeypatch):
    reduced = []
    monkeypatch.setattr("medvq.models.quantize.codebook.sum_over_ranks_", lambda t: reduced.append(t.clone()) or t)
    quantizer = EMAQuantizer(8, 2, init="normal", revive=0)
    quantizer(grid(torch.randn(20, 2)).requires_grad_().bfloat16())
    quantizer.update(Draws(0, 0))
    assert len(reduced) == 1
    assert reduced[0].dtype == torch.float32
    assert reduced[0].shape == (8 * 3,)
    assert reduced[0][:8].sum() == 20


def test_codes_that_no_vector_chose_stay_where_they_are():
    quantizer = EMAQuantizer(512, 64, init="normal", revive=0)
    before = quantizer.codebook.clone()
    train_step(quantizer, before[:4] + 0.01)
    torch.testing.assert_close(quantizer.codebook[4:], before[4:], rtol=1e-3, atol=1e-3)
    assert quantizer.codebook.norm(dim=1).max() < 20


def test_sums_agree_with_counts_after_the_start():
    quantizer = EMAQuantizer(8, 2)
    quantizer(grid(torch.randn(200, 2)).requires_grad_(), Draws(0, 0))
    assert torch.equal(quantizer.counts, torch.ones(8))
    assert torch.equal(quantizer.sums, quantizer.codebook)


def test_codes_of_another_scale_than_the_data_come_into_use():
    """If codes are ten times longer than encoder outputs, almost none is ever chosen without revival."""
    z = 0.1 * torch.randn(1024, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    used = {}
    for revive in (0.0, 0.2):
        quantizer = EMAQuantizer(64, 16, init="normal", revive=revive)
        for step in range(60):
            train_step(quantizer, z, step)
        used[revive] = len(nearest_codes(z, quantizer.codebook).unique())
    assert used[0.0] < 16
    assert used[0.2] > 50


def test_beta_weighs_the_encoder_term_and_no_gradient_reaches_the_codes():
    quantizer = EMAQuantizer(8, 3, beta=0.5, init="normal", revive=0)
    z = grid(torch.randn(20, 3)).requires_grad_()
    out = quantizer(z)
    codes = quantizer.codebook[out.indices.reshape(-1)]
    expected = (z.detach()[0, :, 0].t() - codes).square().mean()
    torch.testing.assert_close(out.losses["commitment"], expected)
    torch.testing.assert_close(out.penalty, 0.5 * expected)
    out.penalty.backward()
    torch.testing.assert_close(z.grad, 0.5 * 2 * (z.detach() - grid(codes)) / codes.numel())
    assert list(quantizer.parameters()) == []
    assert not quantizer.codebook.requires_grad


def test_straight_through_gradient_is_unchanged():
    quantizer = EMAQuantizer(8, 3, init="normal")
    z = grid(torch.randn(20, 3)).requires_grad_()
    weight = torch.randn_like(z)
    (quantizer(z).z_q * weight).sum().backward()
    assert torch.equal(z.grad, weight)


def test_both_gradients_add_up():
    quantizer = EMAQuantizer(8, 3, init="normal")
    z = grid(torch.randn(20, 3)).requires_grad_()
    weight = torch.randn_like(z)

    def gradient(loss):
        return torch.autograd.grad(loss(quantizer(z)), z)[0]

    through = gradient(lambda out: (out.z_q * weight).sum())
    commitment = gradient(lambda out: out.penalty)
    torch.testing.assert_close(gradient(lambda out: (out.z_q * weight).sum() + out.penalty), through + commitment)


def test_k_means_starts_once_from_training_data():
    z = grid(20 + torch.randn(300, 2))
    quantizer = EMAQuantizer(8, 2)
    drawn = quantizer.codebook.clone()
    quantizer.eval()(z.clone().requires_grad_(), Draws(0, 0))
    quantizer.train()
    with torch.no_grad():
        quantizer(z, Draws(0, 0))
    assert not quantizer.initted
    assert torch.equal(quantizer.codebook, drawn)
    quantizer(z.clone().requires_grad_(), Draws(0, 0))
    first = quantizer.codebook.clone()
    assert quantizer.initted
    assert first.min() > 10
    quantizer(z.clone().requires_grad_() - 9, Draws(0, 1))
    assert torch.equal(quantizer.codebook, first)


def test_a_resumed_codebook_does_not_start_again():
    one = EMAQuantizer(8, 2)
    train_step(one, torch.randn(100, 2))
    other = EMAQuantizer(8, 2)
    other.load_state_dict(one.state_dict())
    other(grid(9 + torch.randn(100, 2)).requires_grad_())
    assert torch.equal(other.codebook, one.codebook)


def test_start_without_draws_is_refused():
    with pytest.raises(ValueError, match="needs draws"):
        EMAQuantizer(8, 2, name="level0/top")(grid(torch.randn(9, 2)).requires_grad_())


@pytest.mark.parametrize("vectors", [1, 3, 8])
def test_fewer_vectors_than_codes_give_finite_distinct_codes(vectors):
    z = torch.randn(vectors, 2, generator=torch.Generator().manual_seed(0))
    codes = start_codes(z, 8, Draws(0, 0), "kmeans")
    assert codes.shape == (8, 2)
    assert torch.isfinite(codes).all()
    assert torch.cdist(z, codes).min(1).values.max() < 1e-6
    assert len(codes.unique(dim=0)) == 8 or vectors == 1


def test_k_means_finds_separated_clusters():
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    z = centres.repeat(50, 1) + 0.1 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    found = kmeans(torch.cat([z[:1].repeat(40, 1), z]), 4)
    assert torch.cdist(centres, found).min(1).values.max() < 0.2


def test_k_means_moves_codes_that_are_left_without_vectors():
    points = 5 + torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    # The first codes are the same point, so all but one of them have no vectors.
    found = kmeans(torch.cat([points[:1].repeat(40, 1), points.repeat(5, 1)[order]]), 16)
    assert torch.cdist(points, found).min(1).values.max() < 1e-5


def test_revival_resets_code_count_and_sum():
    quantizer = EMAQuantizer(16, 2, decay=0.5, init="normal", revive=0.1)
    quantizer.codebook[8:] += 1000
    quantizer.sums[8:] = quantizer.codebook[8:]
    z = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    for step in range(20):
        train_step(quantizer, z, step)
    assert quantizer.codebook.abs().max() < 10
    fair = quantizer.counts.sum() / 16
    # A code is sums / counts, up to smoothing. A revival that does not reset the sums is undone by the next update.
    torch.testing.assert_close(quantizer.codebook, quantizer.sums / quantizer.counts[:, None], rtol=1e-3, atol=1e-3)
    assert quantizer.counts.min() >= 0.05 * fair


def test_threshold_is_relative_to_the_mean_use():
    """With fewer vectors than codes, an absolute threshold would replace codes that are used regularly."""
    quantizer = EMAQuantizer(256, 2, init="normal", revive=0.1)
    quantizer.counts.fill_(1e-3)
    quantizer.sums.copy_(quantizer.codebook * 1e-3)
    before = quantizer.codebook.clone()
    train_step(quantizer, before)
    torch.testing.assert_close(quantizer.codebook, before, rtol=1e-2, atol=1e-2)


def test_revived_codes_are_vectors_of_the_batch():
    quantizer = EMAQuantizer(8, 2, init="normal", revive=0.1)
    quantizer.counts[3] = 0
    quantizer.codebook[3] = 1e6
    quantizer.sums[3] = 0
    z = torch.randn(50, 2)
    train_step(quantizer, z)
    assert (z == quantizer.codebook[3]).all(1).any()
    torch.testing.assert_close(quantizer.sums[3], quantizer.codebook[3] * quantizer.counts[3])
    first = quantizer.codebook[3].clone()
    train_step(quantizer, z, 1)
    torch.testing.assert_close(quantizer.codebook[3], first, rtol=0.5, atol=0.5)


def test_values_that_are_not_finite_are_named_and_kept_out():
    quantizer = EMAQuantizer(8, 2, init="normal", name="level1/top")
    before = quantizer.codebook.clone()
    with pytest.raises(MedvqError, match="codebook level1/top at step 3"):
        train_step(quantizer, torch.full((9, 2), torch.nan), step=3)
    assert torch.equal(quantizer.codebook, before)


def test_moving_averages_advance_under_bfloat16():
    """In bfloat16, 100 + 0.01 · (101 − 100) rounds to 100, so averages would never change."""
    quantizer = EMAQuantizer(1, 1, init="normal", revive=0).bfloat16()
    quantizer.counts.fill_(100)
    for step in range(50):
        train_step(quantizer, torch.ones(101, 1), step)
    assert abs(float(quantizer.counts) - (101 - 0.99**50)) < 1e-3
