"""Compare code usage with closed forms."""

import math

import numpy as np
import pytest
import torch

from medvq.metrics.codebook import code_counts, codebook_use


def use(indices, size):
    return codebook_use(code_counts(torch.as_tensor(indices), size))


def test_uniform_use_has_perplexity_k():
    found = use(torch.arange(512).repeat(4), 512)
    assert (found.used, found.usage, found.positions) == (512, 1.0, 2048)
    assert found.perplexity == pytest.approx(512, rel=1e-12)
    assert found.top10 == pytest.approx(10 / 512)


def test_one_code_has_perplexity_one():
    found = use(torch.full((3, 4, 4), 7), 32)
    assert (found.used, found.usage, found.perplexity, found.top10) == (1, 1 / 32, 1.0, 1.0)


def test_equals_numpy():
    indices = np.random.default_rng(0).zipf(1.5, 5000) % 64
    share = np.bincount(indices, minlength=64) / 5000
    found = use(indices, 64)
    assert found.perplexity == pytest.approx(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()), rel=1e-12)
    assert found.top10 == pytest.approx(np.sort(share)[-10:].sum(), rel=1e-12)
    assert found.counts == tuple(np.bincount(indices, minlength=64))


def test_nothing_counted_is_not_a_number():
    found = use(torch.zeros(0, dtype=torch.int64), 8)
    assert (found.positions, found.used) == (0, 0)
    assert math.isnan(found.perplexity)
    assert math.isnan(found.top10)


def test_small_codebooks_have_all_codes_among_the_top_ten():
    assert use([0, 1, 2], 3).top10 == pytest.approx(1)
