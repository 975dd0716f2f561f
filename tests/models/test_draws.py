"""Keyed draws are pure functions of (seed, step, purpose), for any number of ranks."""

import pytest
import torch

from medvq.models.draws import Draws


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_slices_of_ranks_make_up_the_same_global_draw(kind, world):
    whole = getattr(Draws(3, 5), kind)((8, 2, 3), "noise")
    parts = [getattr(Draws(3, 5, rank, world), kind)((8 // world, 2, 3), "noise") for rank in range(world)]
    assert torch.equal(torch.cat(parts), whole)


def test_draws_differ_by_seed_step_and_purpose_and_not_by_history():
    def draw(seed=0, step=0, purpose="a"):
        return Draws(seed, step).normal((4,), purpose)

    first = draw()
    torch.randn(7)
    assert torch.equal(draw(), first)
    for other in (draw(seed=1), draw(step=1), draw(purpose="b")):
        assert not torch.equal(other, first)


@pytest.mark.parametrize(("count", "total"), [(5, 5), (3, 10), (10, 1 << 17), (1 << 13, 1 << 17)])
def test_positions_are_distinct_and_the_same_on_every_rank(count, total):
    found = Draws(0, 1).positions(count, total, "pick")
    assert found.dtype == torch.int64
    assert len(found) == len(set(found.tolist())) == count
    assert int(found.min()) >= 0
    assert int(found.max()) < total
    assert torch.equal(Draws(0, 1, 1, 2).positions(count, total, "pick"), found)


def test_more_positions_than_there_are_take_each_once_first():
    found = Draws(0, 1).positions(7, 3, "pick").tolist()
    assert sorted(found[:3]) == [0, 1, 2]
    assert set(found[3:]) <= {0, 1, 2}
    assert len(found) == 7


def test_rank_outside_the_world_is_refused():
    with pytest.raises(ValueError, match="rank 2"):
        Draws(0, 0, 2, 2)
