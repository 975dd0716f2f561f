"""Tar shards as another lab writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tars import sample, shard


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two splits, class numbers, a mask for some, a patient for all."""
    for split, start, n in (("train", 0, 40), ("val", 40, 12)):
        for part in range(2):
            first = start + part * n // 2
            members = [
                m
                for i in range(first, first + n // 2)
                for m in sample(f"s{i:04d}", i, cls=str(i % 3), mask="seg.png" * (i % 4 == 0), patient=f"p{i // 4}")
            ]
            shard(tmp_path / "shards" / f"{split}-{part:06d}.tar", members)
    return tmp_path / "shards"
