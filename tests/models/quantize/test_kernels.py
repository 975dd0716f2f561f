"""Compare `nearest_codes` with a brute-force search in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvq.models.quantize import kernels as module
from medvq.models.quantize.kernels import nearest_codes


def brute_force(vectors, codes):
    """Return the lowest index among the nearest codes."""
    distance = (vectors[:, None].double() - codes[None].double()).square().sum(-1)
    return (distance == distance.amin(1, keepdim=True)).int().argmax(1)


@pytest.mark.parametrize("dim", [1, 2, 3, 64, 256])
@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 512])
def test_equals_brute_force(dim, size):
    generator = torch.Generator().manual_seed(dim * 1000 + size)
    vectors, codes = torch.randn(257, dim, generator=generator), torch.randn(size, dim, generator=generator)
    found = nearest_codes(vectors, codes)
    assert found.dtype == torch.int64
    assert torch.equal(found, brute_force(vectors, codes))


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
def test_a_common_offset_does_not_cancel_the_answer_away(offset):
    generator = torch.Generator().manual_seed(1)
    vectors = offset + torch.randn(500, 8, generator=generator)
    codes = offset + torch.randn(100, 8, generator=generator)
    assert torch.equal(nearest_codes(vectors, codes), brute_force(vectors, codes))


def test_ties_go_to_the_lowest_index():
    codes = torch.randn(40, 16, generator=torch.Generator().manual_seed(0)).repeat(20, 1)
    vectors = codes[:40] + 0.01
    assert int(nearest_codes(vectors, codes).max()) < 40
    assert torch.equal(nearest_codes(torch.zeros(3, 4), torch.ones(70, 4)), torch.zeros(3, dtype=torch.int64))


def test_one_far_code_does_not_make_all_others_doubtful(monkeypatch):
    pairs, resolve = [], module._Scorer._resolve_ties
    monkeypatch.setattr(module._Scorer, "_resolve_ties", lambda s, v, c: pairs.append(int(c.sum())) or resolve(s, v, c))
    generator = torch.Generator().manual_seed(1)
    vectors, codes = torch.randn(500, 8, generator=generator), torch.randn(100, 8, generator=generator)
    codes[17] = 1e5
    assert torch.equal(nearest_codes(vectors, codes), brute_force(vectors, codes))
    assert sum(pairs) < 520  # about one per vector, of 50,000 pairs


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=70),
    st.lists(st.tuples(st.integers(-6, 6), st.integers(-6, 6)), min_size=1, max_size=20),
    st.sampled_from([1.0, 1e-3, 1e6]),
)
@settings(max_examples=60, deadline=None)
def test_lattices_full_of_ties(codes, points, scale):
    codes, vectors = torch.tensor(codes) * scale, torch.tensor(points) * scale / 2
    assert torch.equal(nearest_codes(vectors, codes), brute_force(vectors, codes))


def test_codes_closer_than_rounding_are_told_apart():
    base = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    codes = base + 1e-6 * torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    far = torch.cat([codes, 10 * torch.randn(50, 64, generator=torch.Generator().manual_seed(2))])
    assert torch.equal(nearest_codes(codes, far), brute_force(codes, far))


def test_chunks_do_not_change_the_answer(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    vectors, codes = torch.randn(300, 5, generator=generator), torch.randn(90, 5, generator=generator)
    whole = nearest_codes(vectors, codes)
    monkeypatch.setattr(module, "CPU_SCORES", 7 * 96)
    monkeypatch.setattr(module, "PAIR_VALUES", 8)
    assert torch.equal(nearest_codes(vectors, codes), whole)


def test_reduced_matmul_precision_of_the_caller_is_not_used_and_is_kept(monkeypatch):
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    inside, addmm = [], torch.addmm

    def spy(*args, **kwargs):
        inside.extend(backend.fp32_precision for backend in backends)
        return addmm(*args, **kwargs)

    monkeypatch.setattr(torch, "addmm", spy)
    torch.set_float32_matmul_precision("medium")
    try:
        nearest_codes(torch.randn(3, 4), torch.randn(5, 4))
        assert [backend.fp32_precision for backend in backends] == ["tf32", "bf16"]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert inside == ["ieee", "ieee"]


def test_centring_keeps_near_ties_rare(monkeypatch):
    """Without centring, rounding errors would exceed the differences, and every vector would need float64."""
    resolved, resolve = [], module._Scorer._resolve_ties
    monkeypatch.setattr(
        module._Scorer, "_resolve_ties", lambda s, vectors, c: resolved.append(len(vectors)) or resolve(s, vectors, c)
    )
    generator = torch.Generator().manual_seed(1)
    nearest_codes(1e3 + torch.randn(500, 8, generator=generator), 1e3 + torch.randn(100, 8, generator=generator))
    assert sum(resolved) < 25


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_still_give_indices_in_range(bad):
    codes = torch.randn(33, 4, generator=torch.Generator().manual_seed(0))
    vectors = torch.full((3, 4), bad)
    assert int(nearest_codes(vectors, codes).min()) >= 0
    assert int(nearest_codes(vectors, codes).max()) < 33


def test_no_vectors():
    assert nearest_codes(torch.zeros(0, 4), torch.ones(3, 4)).shape == (0,)


def test_whole_score_matrix_is_never_held():
    """For N · K = 2^24 scores (64 MiB as float32), peak memory stays below 16 MiB."""
    vectors, codes = torch.randn(1 << 12, 4), torch.randn(1 << 12, 4)
    peak = _peak_bytes(lambda: nearest_codes(vectors, codes))
    assert 0 < peak < 16 << 20


def _peak_bytes(work):
    """Return the peak memory of tensors allocated during `work`, from the profiler's allocation events."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    total = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            peak = max(peak, total)
    return peak
