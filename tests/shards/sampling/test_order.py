"""The order of samples: global batches do not depend on the number of ranks, and every sample is drawn."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvq.shards.sampling.order import (
    OrderFacts,
    epoch_order,
    eval_slices,
    random_below,
    random_bits,
    rank_slice,
    shares,
    sorting_of,
    steps_per_epoch,
)


def permutation(n: int) -> OrderFacts:
    return OrderFacts(key={"view": "a"}, samples=n)


@given(n=st.integers(1, 400), batch=st.integers(1, 64), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_a_permutation_epoch_holds_every_sample_and_fills_its_last_batch_from_the_start(n, batch, seed, epoch):
    order = epoch_order(permutation(n), seed, epoch, batch)
    flat = order.ravel()
    assert order.shape == (steps_per_epoch(n, batch), batch)
    assert sorted(flat[:n]) == list(range(n))
    assert np.array_equal(flat[n:], np.resize(flat[:n], len(flat))[n:])


@pytest.mark.parametrize(("samples", "steps"), [(8447, 352), (4223, 176), (842, 36), (82, 4)])
def test_steps_of_the_published_subsets(samples, steps):
    assert len(epoch_order(permutation(samples), 0, 0, 24)) == steps


def test_the_order_is_the_same_on_every_machine_and_numpy():
    # Golden: a change here changes every run that was ever made.
    assert epoch_order(permutation(10), 0, 0, 5).tolist() == [[5, 3, 1, 4, 7], [0, 9, 2, 6, 8]]
    facts = OrderFacts(key={"view": "b"}, samples=6, groups=np.array([0, 0, 0, 0, 1, 1]), mass=(1.0, 3.0), draws=8)
    assert epoch_order(facts, 1, 2, 4).tolist() == [[1, 4, 5, 5], [0, 5, 5, 5]]


def test_seed_epoch_and_view_change_the_order():
    one = epoch_order(permutation(50), 0, 0, 10)
    others = [
        epoch_order(permutation(50), 1, 0, 10),
        epoch_order(permutation(50), 0, 1, 10),
        epoch_order(OrderFacts(key={"view": "c"}, samples=50), 0, 0, 10),
    ]
    assert all(not np.array_equal(one, other) for other in others)


@given(
    local=st.integers(1, 6),
    world=st.sampled_from([1, 2, 4]),
    n=st.integers(1, 100),
    stop=st.integers(0, 100),
)
def test_the_ranks_of_any_world_hold_the_same_global_batches(local, world, n, stop):
    batch = local * 4
    order = epoch_order(permutation(n), 3, 1, batch)
    for step in range(min(stop, len(order)), len(order)):
        held = np.concatenate([rank_slice(order[step], r, world) for r in range(world)])
        assert np.array_equal(held, order[step])


@given(n=st.integers(0, 200), batch=st.integers(1, 40), world=st.integers(1, 5))
def test_evaluation_sees_every_sample_once(n, batch, world):
    held = [eval_slices(n, batch, r, world) for r in range(world)]
    assert Counter(int(p) for rank in held for part in rank for p in part) == Counter(range(n))
    assert all(len(part) <= -(-batch // world) for rank in held for part in rank)


def test_draws_follow_the_mass_of_the_groups():
    # The published mixture: 1,419 images of weight 4 and 1,081 of weight 1 give the first a share of 0.840.
    groups = np.repeat([0, 1], [1419, 1081])
    facts = OrderFacts(key={}, samples=2500, groups=groups, mass=(4 * 1419.0, 1081.0), draws=2500)
    order = epoch_order(facts, 0, 0, 24)
    assert len(order) == 105
    big = epoch_order(OrderFacts(key={}, samples=2500, groups=groups, mass=facts.mass, draws=200_000), 0, 0, 24)
    assert shares(big, groups, 2)[0] == pytest.approx(0.840, abs=0.005)
    # Inside a group all are equally likely: chi-squared of 1,419 cells stays near its degrees of freedom.
    counts = np.bincount(big[groups[big] == 0], minlength=1419)[:1419]
    chi = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert abs(chi - 1418) < 5 * np.sqrt(2 * 1418)


def test_a_stable_sort_also_with_equal_values():
    values = np.array([3, 1, 2, 1, 3, 1], np.uint64)
    assert sorting_of(values).tolist() == [1, 3, 5, 2, 0, 4]


def test_random_below_covers_its_range():
    drawn = random_below(random_bits(1, 4000), np.full(4000, 7))
    assert set(drawn.tolist()) == set(range(7))
