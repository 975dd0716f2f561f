from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import by_path, class_folders, encode, picture, pixels, put, rows_of

from medvq.config.recipe import Made, Recipe, Splits
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.image.phash import near_pairs
from medvq.shards.pack.pack import BadSamplesError, LeakError, pack
from medvq.shards.sampling.split import SplitMember, find_leaks, make_splits

MAKE = {"val": Made(share=0.15), "test": Made(share=0.25)}


def members(n: int, classes: int = 3, groups: int | None = None) -> list[SplitMember]:
    return [
        SplitMember(f"{i:08x}", f"c{i % classes}", None if groups is None else f"g{i * 7 % groups}", "train")
        for i in range(n)
    ]


def test_shares_are_exact_in_every_class() -> None:
    rows = members(300)
    counts = Counter((m.label, s) for m, s in zip(rows, make_splits(rows, MAKE, 0), strict=True))
    assert counts == {(f"c{c}", s): n for c in range(3) for s, n in (("train", 60), ("val", 15), ("test", 25))}


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2), st.integers(0, 12)), min_size=1, max_size=80),
    st.integers(),
)
def test_groups_and_copies_stay_together_and_order_does_not_matter(rows: list[tuple[int, int, int]], seed: int) -> None:
    made = [SplitMember(f"{content}-{label}", f"c{label}", f"g{group}", "train") for content, label, group in rows]
    splits = make_splits(made, MAKE, seed)
    assert find_leaks([SplitMember(m.content, m.label, m.group, s) for m, s in zip(made, splits, strict=True)],
                      [str(i) for i in range(len(made))])[1] == []  # fmt: skip
    again = make_splits(made[::-1], MAKE, seed)[::-1]
    assert Counter(zip(made, splits, strict=True)) == Counter(zip(made, again, strict=True))


def test_groups_come_near_the_shares() -> None:
    rows = members(3000, groups=150)  # 50 groups of 20 in each class of 1000
    counts = Counter((m.label, s) for m, s in zip(rows, make_splits(rows, MAKE, 0), strict=True))
    for label in ("c0", "c1", "c2"):
        assert abs(counts[label, "val"] - 150) <= 20
        assert abs(counts[label, "test"] - 250) <= 20


def test_another_seed_makes_other_splits() -> None:
    rows = members(100)
    assert make_splits(rows, MAKE, 0) == make_splits(rows, MAKE, 0) != make_splits(rows, MAKE, 1)


def test_a_class_of_one_stays_in_train_and_given_splits_are_left() -> None:
    rows = [*members(40, 1), SplitMember("ff", "rare", None, "train"), SplitMember("aa", "c0", None, "val")]
    splits = make_splits(rows, {"test": Made(share=0.9)}, 0)
    assert splits[40:] == ["train", "val"]
    assert Counter(splits) == {"train": 5, "test": 36, "val": 1}


def test_test_can_be_made_of_val(tmp_path: Path) -> None:
    for i in range(60):
        picture(tmp_path / "s" / ("train" if i < 20 else "val") / "ab"[i % 2] / f"{i}.png", i)
    recipe = Recipe(splits=Splits(make={"test": Made(of="val", share=0.7)}))
    assert pack(tmp_path / "s", tmp_path / "out", recipe, processes=1).splits == {"train": 20, "val": 12, "test": 28}


def test_copies_of_one_image_go_to_one_split_and_are_told(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "cells", {"a": 30, "b": 30})
    for i in range(10):
        put(source / "a" / f"copy_{i}.jpg", (source / "a" / f"a_{i:03d}.jpg").read_bytes())
    pack(source, tmp_path / "out", Recipe(splits=Splits(make=MAKE)), processes=1)
    rows = by_path(tmp_path / "out")
    for i in range(10):
        assert rows[f"a/copy_{i}.jpg"]["split"] == rows[f"a/a_{i:03d}.jpg"]["split"]
    manifest = read_manifest(tmp_path / "out")
    assert len(manifest.duplicates) == 10
    assert manifest.leaks.found == []
    assert any("10 images are copies" in n for n in manifest.notes)


def leaky(root: Path) -> Path:
    for i in range(8):
        picture(root / ("train" if i < 5 else "val") / "ab"[i % 2] / f"P{i // 4}_{i}.png", i)
    put(root / "val" / "a" / "P9_copy.png", (root / "train" / "a" / "P0_0.png").read_bytes())
    return root


def test_the_same_bytes_in_two_splits_are_refused_or_recorded(tmp_path: Path) -> None:
    source = leaky(tmp_path / "s")
    with pytest.raises(LeakError) as e:
        pack(source, tmp_path / "out", processes=1)
    assert e.value.code == 5
    assert e.value.found[0]["samples"] == ["train/a/P0_0.png", "val/a/P9_copy.png"]
    assert "train/a/P0_0.png" in str(e.value)
    assert not (tmp_path / "out").exists()
    report = pack(source, tmp_path / "out", processes=1, on_leak="report")
    leaks = read_manifest(tmp_path / "out").leaks
    assert (leaks.checked, len(leaks.found), leaks.allowed) == (["bytes"], 1, True)
    assert report.leaks == leaks.found
    with pytest.raises(LeakError):
        pack(source, tmp_path / "out", processes=1)


def test_a_group_in_two_splits_is_refused(tmp_path: Path) -> None:
    source = leaky(tmp_path / "s")
    (source / "val" / "a" / "P9_copy.png").unlink()
    recipe = Recipe(images=["{split}/{class}/{group}_{id}.png"])
    with pytest.raises(LeakError, match="the same group in train and val"):
        pack(source, tmp_path / "out", recipe, processes=1)


def test_the_same_bytes_under_two_labels_are_bad_samples(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "cells", {"a": 5, "b": 5})
    put(source / "b" / "twin.jpg", (source / "a" / "a_002.jpg").read_bytes())
    with pytest.raises(BadSamplesError) as e:
        pack(source, tmp_path / "out", processes=1)
    assert [b.path for b in e.value.bad] == ["a/a_002.jpg", "b/twin.jpg"]
    report = pack(source, tmp_path / "out", processes=1, on_bad="skip")
    assert (report.seen, report.written, len(report.skipped)) == (11, 9, 2)
    assert "another label" in report.skipped[0]["reason"]


def test_images_that_look_alike_across_splits_are_warned_of(tmp_path: Path) -> None:
    for i in range(20):
        picture(tmp_path / "s" / ("train" if i < 14 else "test") / "ab"[i % 2] / f"{i}.png", i, size=(120, 130))
    put(tmp_path / "s" / "test" / "a" / "again.jpg", encode(pixels(4, size=(120, 130)), "JPEG", quality=70))
    put(tmp_path / "s" / "train" / "a" / "again2.jpg", encode(pixels(6, size=(120, 130)), "JPEG", quality=70))
    pack(tmp_path / "s", tmp_path / "out", processes=1)
    rows = {r["key"]: r for r in rows_of(tmp_path / "out")}
    near = read_manifest(tmp_path / "out").near_duplicates
    assert [sorted(k.split("_")[1] for k in pair["keys"]) for pair in near] == [["4", "again"]]
    assert {rows[k]["split"] for k in near[0]["keys"]} == {"train", "test"}
    assert any("look alike" in n for n in read_manifest(tmp_path / "out").notes)


def test_near_pairs_finds_what_brute_force_finds() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (300, 32), dtype=np.uint8)
    for i in range(0, 100, 2):
        codes[i + 1] = codes[i]
        for bit in rng.choice(256, i % 16, replace=False):
            codes[i + 1, bit // 8] ^= 1 << (bit % 8)
    splits = ["train", "test"] * 150
    found = near_pairs([c.tobytes().hex() for c in codes], splits)
    assert found == [(i, i + 1, i % 16) for i in range(0, 100, 2)]
