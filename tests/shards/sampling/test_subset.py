from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raabin_counts import PUBLISHED

from medvq.shards.sampling.subset import ranks, take


@pytest.fixture(scope="module")
def raabin() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, masks and ranks of 8,447 samples."""
    labels = np.repeat(np.arange(5), [n for n, _ in PUBLISHED[100]])
    masks = np.concatenate([np.arange(n) < m for n, m in PUBLISHED[100]])
    order = np.random.default_rng(3).permutation(len(labels))
    labels, masks = labels[order], masks[order]
    return labels, masks, ranks([f"{i:064x}" for i in order], labels, masks)


@pytest.mark.parametrize("percent", PUBLISHED)
def test_every_cell_of_the_published_table(raabin: tuple[np.ndarray, ...], percent: int) -> None:
    labels, masks, rank = raabin
    counts = take(np.bincount(labels).tolist(), percent)
    assert sum(counts.values()) == {100: 8447, 50: 4223, 10: 842, 1: 82}[percent]
    for label, (images, with_mask) in enumerate(PUBLISHED[percent]):
        chosen = (labels == label) & (rank < counts[label])
        assert (chosen.sum(), (chosen & masks).sum()) == (images, with_mask)


classes = st.lists(st.tuples(st.integers(-1, 3), st.booleans()), max_size=60)


@given(classes, st.integers(0, 5))
def test_ranks_are_a_permutation_of_each_class(rows: list[tuple[int, bool]], draw: int) -> None:
    labels, masks = [r[0] for r in rows], [r[1] for r in rows]
    rank = ranks([f"{i:08x}" for i in range(len(rows))], labels, masks, draw)
    for label in set(labels):
        of_class = sorted(rank[np.array(labels) == label].tolist())
        assert of_class == list(range(len(of_class)))


@given(classes, st.integers(0, 5))
def test_the_mask_rule_holds_for_every_prefix(rows: list[tuple[int, bool]], draw: int) -> None:
    labels, masks = np.array([0] * len(rows)), np.array([r[1] for r in rows], bool)
    rank = ranks([f"{i:08x}" for i in range(len(rows))], labels, masks, draw)
    n, m = len(rows), int(masks.sum())
    for k in range(1, n + 1):
        assert masks[rank < k].sum() == min((k + 1) * m // n, k, m)


@given(classes, st.randoms())
def test_ranks_belong_to_the_content_and_not_to_the_order(rows: list[tuple[int, bool]], random) -> None:
    keys = [f"{i:08x}" for i in range(len(rows))]
    labels, masks = [r[0] for r in rows], [r[1] for r in rows]
    shuffled = list(range(len(rows)))
    random.shuffle(shuffled)
    a = ranks(keys, labels, masks)
    b = ranks([keys[i] for i in shuffled], [labels[i] for i in shuffled], [masks[i] for i in shuffled])
    assert a[shuffled].tolist() == b.tolist()


def test_another_draw_is_another_ranking() -> None:
    keys, labels, masks = [f"{i:08x}" for i in range(100)], [0] * 100, [False] * 100
    assert ranks(keys, labels, masks, 0).tolist() != ranks(keys, labels, masks, 1).tolist()
    assert ranks(keys, labels, masks, 0).tolist() == ranks(keys, labels, masks, 0).tolist()


def test_ranks_are_pinned() -> None:
    assert ranks([f"{i:02x}" for i in range(8)], [0] * 8, [True, False] * 4).tolist() == PINNED


PINNED = [2, 5, 6, 1, 0, 3, 4, 7]
"""Released datasets hold these ranks; they must never change."""


@pytest.mark.parametrize(
    ("percent", "wanted"), [(100, 7), (50, 3), (14.3, 1), (0.1, 1), (28.6, 2), (42.9, 3), (99.9, 6)]
)
def test_take_is_exact_and_at_least_one(percent: float, wanted: int) -> None:
    assert take([7, 0], percent) == {0: wanted, 1: 0}


def test_take_of_decimal_shares_is_not_off_by_one() -> None:
    assert take([1000], 0.7) == {0: 7}
    assert take({4: 1000}, 28.9) == {4: 289}


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_take_refuses_what_is_no_share(percent: float) -> None:
    with pytest.raises(ValueError, match="subset"):
        take([5], percent)
