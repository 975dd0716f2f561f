"""Views: which samples they hold, how these are numbered, and how they are drawn."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvq.errors import UsageError
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.view import View, ViewPart
from medvq.shards.sampling.order import epoch_order


def view(*paths, size=(8, 8), weights=None, **options):
    weights = weights or [1.0] * len(paths)
    parts = tuple(ViewPart(dataset=Dataset.open(p), weight=w) for p, w in zip(paths, weights, strict=True))
    return View(parts=parts, size=size, **options)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory, write_dataset):
    counts = {"train": (30, 11, 1), "val": (4, 2, 0)}
    return write_dataset(tmp_path_factory.mktemp("uneven") / "d", counts=counts, size=(4, 4))


def test_splits(tiny_dataset):
    assert len(view(tiny_dataset)) == 17
    assert len(view(tiny_dataset, splits=("val",))) == 5
    assert len(view(tiny_dataset, splits=("train", "val"))) == len(view(tiny_dataset, splits=("all",))) == 22
    assert {k[:4] for k in view(tiny_dataset, splits=("val",)).keys()} == {"val-"}  # noqa: SIM118
    with pytest.raises(UsageError, match="no split 'valid'") as e:
        view(tiny_dataset, splits=("valid",)).rows()
    assert e.value.hint == "did you mean val?"


def test_the_numbering_follows_content_not_names(tmp_path, write_dataset):
    counts = {"train": (6, 6), "val": (3, 3)}
    one = view(write_dataset(tmp_path / "one", counts=counts, shard_samples=4), splits=("all",))
    # Other keys in another order, in shards of another size: the same content and so the same digest.
    two = view(
        write_dataset(tmp_path / "two", counts=counts, shard_samples=5, rename=lambda k: f"{hash_name(k)}"),
        splits=("all",),
    )
    assert one.key() == two.key()
    assert one.keys() != two.keys()
    assert list(map(hash_name, one.keys())) == two.keys()
    assert np.array_equal(one.labels(), two.labels())


def hash_name(key: str) -> str:
    return f"{(sum(map(ord, key)) * 7919 + int(key[-5:]) * 31 + ord(key[0])) % 99991:05d}{key}"


@settings(deadline=None)
@given(percents=st.lists(st.floats(0.5, 100), min_size=2, max_size=4), draw=st.integers(0, 2))
def test_subsets_nest(uneven, percents, draw):
    seen = [set(view(uneven, subset=p, draw=draw).keys()) for p in sorted(percents)]
    assert all(small <= large for small, large in itertools.pairwise(seen))
    for percent, keys in zip(sorted(percents), seen, strict=True):
        counts = Counter(k.split("-")[1] for k in keys)
        wanted = {"0": 30, "1": 11, "2": 1}
        assert counts == {label: max(1, int(n * percent / 100)) for label, n in wanted.items()}


def test_another_draw_is_another_subset_and_the_other_splits_stay_whole(uneven):
    chosen = {frozenset(view(uneven, subset=10, draw=d).keys()) for d in range(4)}
    assert len(chosen) > 1
    assert len(view(uneven, subset=10, splits=("val",))) == 6
    assert len(view(uneven, subset=10, splits=("train", "val"))) == 3 + 1 + 1 + 6


def test_limit_keeps_every_class_and_the_proportions(uneven):
    limited = view(uneven, limit=8)
    assert Counter(limited.labels().tolist()) == {0: 5, 1: 2, 2: 1}
    smaller = view(uneven, limit=5)
    assert set(smaller.keys()) <= set(limited.keys())
    assert len(view(uneven, limit=1000)) == 42


def test_class_balanced_draws_show_every_class_as_often(uneven):
    balanced = view(uneven, balance="class")
    facts = balanced.order_facts()
    assert len(facts) == 42  # an epoch is as long as the view
    many = view(uneven, balance="class", draws=30_000)
    labels = many.labels()[epoch_order(many.order_facts(), 0, 0, 10)].ravel()
    assert np.bincount(labels) / len(labels) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_a_mixture_draws_by_weight_per_image(tmp_path, write_dataset):
    a = write_dataset(tmp_path / "a", counts={"train": (30,)}, name="a", size=(4, 4))
    b = write_dataset(tmp_path / "b", counts={"train": (20,)}, name="b", size=(4, 4), seed=1)
    mixed = view(a, b, weights=[4.0, 1.0], draws=20_000)
    part = mixed.rows()[0][epoch_order(mixed.order_facts(), 0, 0, 100).ravel()]
    assert np.mean(part == 0) == pytest.approx(4 * 30 / (4 * 30 + 20), abs=0.01)
    # Without `draws` an epoch of unequal weights has as many as there are; equal weights are a permutation.
    assert len(view(a, b, weights=[4.0, 1.0]).order_facts()) == 50
    assert view(a, b).order_facts().groups is None
    assert len(set(mixed.keys())) == 50
    assert mixed.keys()[0].startswith("a/")


def test_class_balance_in_a_mixture_keeps_the_classes_equal(tmp_path, write_dataset):
    a = write_dataset(tmp_path / "a", counts={"train": (30, 2)}, name="a", size=(4, 4))
    b = write_dataset(tmp_path / "b", counts={"train": (5, 9)}, name="b", size=(4, 4), seed=1)
    mixed = view(a, b, weights=[4.0, 1.0], draws=40_000, balance="class")
    at = epoch_order(mixed.order_facts(), 0, 0, 100).ravel()
    part, label = mixed.rows()[0][at], mixed.labels()[at]
    assert np.mean(label == 0) == pytest.approx(0.5, abs=0.01)
    assert np.mean(part[label == 1] == 0) == pytest.approx(4 * 2 / (4 * 2 + 9), abs=0.02)


def test_unlabelled_samples_cannot_be_balanced(tmp_path, write_dataset):
    path = write_dataset(tmp_path / "a", counts={"train": (3,)}, size=(4, 4))
    broken = view(path, balance="class")
    broken.__dict__["_labels"] = np.full(3, -1, np.int16)
    with pytest.raises(UsageError, match="needs a label"):
        broken.order_facts()


def test_masked_copies_leave_out_empty_masks(tmp_path, write_dataset):
    path = write_dataset(tmp_path / "m", counts={"train": (9,)}, masks_every=2, empty_masks=2)
    plain, copied = view(path), view(path, mask_copies=True)
    assert len(plain) == 9
    assert len(copied) == 9 + 5 - 2
    kept = [k + "#masked" for k in plain.keys() if int(k[-5:]) in (4, 6, 8)]  # noqa: SIM118
    assert copied.keys()[9:] == kept
    assert copied.key() != plain.key()


@pytest.mark.parametrize(
    "options", [{"subset": 0}, {"subset": 101}, {"limit": 0}, {"draws": 0}, {"size": (0, 4)}, {"weights": [0.0]}]
)
def test_nonsense_is_refused(tiny_dataset, options):
    with pytest.raises(UsageError):
        view(tiny_dataset, **options)


def test_the_key_leaves_out_what_is_neutral(tiny_dataset):
    assert set(view(tiny_dataset).key()) == {"parts", "splits"}
    assert set(view(tiny_dataset, subset=50, limit=3).key()) == {"parts", "splits", "subset", "draw", "limit"}
