"""The course release of Raabin-WBC, with its real counts and tiny images, through the shipped recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from raabin_counts import PUBLISHED
from trees import encode, put, rows_of

from medvq.config.recipe import load_recipe
from medvq.shards.dataset.summary import describe
from medvq.shards.pack.pack import pack

FOLDERS = ["Basophil", "Eosinophils", "Lymphocyte", "Monocyte", "Neurophil"]
VAL = [36, 126, 412, 95, 1059]


@pytest.mark.slow
def test_the_release_gives_every_published_count(tmp_path: Path) -> None:
    root = tmp_path / "WBC"
    number = 0
    mask = encode(np.full((2, 2), 255, np.uint8))
    for label, (name, (n, masks)) in enumerate(zip(FOLDERS, PUBLISHED[100], strict=True)):
        for i in range(n + VAL[label]):
            number += 1
            split = "train" if i < n else "val"
            image = encode(np.frombuffer(number.to_bytes(12, "big"), np.uint8).reshape(2, 2, 3))
            put(root / "WBC_100" / split / "data" / name / f"{i:05d}.png", image)
            for percent in (50, 10, 1):
                if i < PUBLISHED[percent][label][0]:
                    put(root / f"WBC_{percent}" / "train" / "data" / name / f"{i:05d}.png", image)
            if i < n and (i + 2) * masks // n > (i + 1) * masks // n:
                put(root / "WBC_100" / "train" / "mask" / name / f"{i:05d}.png", mask)
    recipe = load_recipe(Path(__file__).resolve().parents[3] / "shards" / "raabin-wbc.yaml")
    report = pack(root, tmp_path / "out", recipe)
    assert report.splits == {"train": 8447, "val": 519, "test": 1209}
    assert report.notes == []
    found = describe(tmp_path / "out")
    assert found["classes"] == ["basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil"]
    assert found["subsets"] == {"100": 8447, "50": 4223, "10": 842, "1": 82}
    rows = [r for r in rows_of(tmp_path / "out") if r["split"] == "train"]
    for percent, cells in PUBLISHED.items():
        for label, (images, masks) in enumerate(cells):
            chosen = [r for r in rows if r["label"] == label and r["rank"] < images]
            assert (len(chosen), sum(r["has_mask"] for r in chosen)) == (images, masks), (percent, label)
    assert describe(tmp_path / "out")["splits"]["val"]["samples"] + 1209 == 1728
