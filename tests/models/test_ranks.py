"""Two ranks with half the batch each do what one rank does with all of it."""

import pytest
import rank_work
import torch

from medvq.models.quantize.ema import EMAQuantizer


def close(one, other, tolerance=1e-6):
    torch.testing.assert_close(torch.tensor(one).double(), torch.tensor(other).double(), rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def quantizers(ranks):
    return ranks("rank_work:train_quantizers")


def test_t1_t2_quantizer_state_is_bit_equal_on_every_rank_after_every_step(quantizers):
    first, second = ({k: v for k, v in history.items() if not k.endswith("indices")} for history in quantizers)
    assert first == second
    assert len(first) > rank_work.STEPS


def test_t1_t4_two_ranks_equal_one_rank_with_the_whole_batch(quantizers):
    alone = rank_work.train_quantizers(0, 1)
    for key, value in alone.items():
        if key.endswith("indices"):
            assert quantizers[0][key] + quantizers[1][key] == value, key
        else:
            close(quantizers[0][key], value)


def test_t2_codes_were_revived_in_those_steps(quantizers, monkeypatch):
    monkeypatch.setattr(EMAQuantizer, "_revive", lambda *_: None)
    without = rank_work.train_quantizers(0, 1)
    assert any(without[key] != value for key, value in quantizers[0].items() if key.startswith("ema/"))


def test_stacked_model_trains_alike_on_one_and_two_ranks(ranks):
    first, second = ranks("rank_work:train_svqvae")
    alone = rank_work.train_svqvae(0, 1)
    assert first["codebooks"] == second["codebooks"]
    for name, codes in alone["codebooks"].items():
        close(first["codebooks"][name], codes, 1e-4)
    close([(a + b) / 2 for a, b in zip(first["losses"], second["losses"], strict=True)], alone["losses"], 1e-4)
