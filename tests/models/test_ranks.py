"""Two ranks with half of the batch each give the results of one rank with the whole batch."""

import pytest
import rank_work
import torch

from medvq.models.quantize.codebook import CodebookQuantizer


def close(one, other, tolerance=1e-6):
    torch.testing.assert_close(torch.tensor(one).double(), torch.tensor(other).double(), rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def quantizers(ranks):
    return ranks("rank_work:train_quantizers")


def test_quantizer_state_is_bit_equal_on_every_rank_after_every_step(quantizers):
    first, second = ({k: v for k, v in history.items() if not k.endswith("indices")} for history in quantizers)
    assert first == second
    assert len(first) > rank_work.STEPS


def test_two_ranks_equal_one_rank_with_the_whole_batch(quantizers):
    alone = rank_work.train_quantizers(0, 1)
    for key, value in alone.items():
        if key.endswith("indices"):
            assert quantizers[0][key] + quantizers[1][key] == value, key
        else:
            close(quantizers[0][key], value)


def test_codes_were_revived_in_those_steps(quantizers, monkeypatch):
    monkeypatch.setattr(CodebookQuantizer, "_revive", lambda *_: None)
    without = rank_work.train_quantizers(0, 1)
    changed = {key.partition("/")[0] for key, value in quantizers[0].items() if without[key] != value}
    assert changed >= {"ema", "gradient", "cosine", "grouped"}


def test_a_codebook_learnt_by_gradient_is_an_ordinary_parameter():
    assert [name for name, _ in rank_work.CASES["gradient"]().named_parameters()] == ["codebook"]


@pytest.fixture(scope="module")
def brains(ranks):
    return ranks("rank_work:train_vqvae")


def test_batch_norm_uses_the_global_batch(brains):
    alone = rank_work.train_vqvae(0, 1)
    for key in ("running", "codebook"):
        assert brains[0][key] == brains[1][key]
        close(brains[0][key], alone[key], 1e-4)
    close(brains[0]["images"] + brains[1]["images"], alone["images"], 1e-4)
    close([(a + b) / 2 for a, b in zip(brains[0]["losses"], brains[1]["losses"], strict=True)], alone["losses"], 1e-4)


def test_batch_norm_equals_the_stock_one_in_value_and_gradient(ranks):
    parts = ranks("rank_work:normalise")
    stock = rank_work.normalise(0, 1)
    for key in ("out", "grad", "flat", "deep"):
        close(parts[0][key] + parts[1][key], stock[key], 1e-4)
    close([a + b for a, b in zip(parts[0]["weight"], parts[1]["weight"], strict=True)], stock["weight"], 1e-4)
    for key in ("mean", "var", "flat_mean", "flat_var"):
        assert parts[0][key] == parts[1][key]
        close(parts[0][key], stock[key], 1e-5)


def test_stacked_model_trains_alike_on_one_and_two_ranks(ranks):
    first, second = ranks("rank_work:train_svqvae")
    alone = rank_work.train_svqvae(0, 1)
    assert first["codebooks"] == second["codebooks"]
    for name, codes in alone["codebooks"].items():
        close(first["codebooks"][name], codes, 1e-4)
    close([(a + b) / 2 for a, b in zip(first["losses"], second["losses"], strict=True)], alone["losses"], 1e-4)
