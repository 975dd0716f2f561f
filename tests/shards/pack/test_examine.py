"""Images are decoded in full while they are packed: statistics are exact, and damage is found."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvq.config.recipe import Made, Recipe, Splits
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.image.bad import BadImage
from medvq.shards.image.decode import decode
from medvq.shards.load.decode import decode_image
from medvq.shards.pack import examine
from medvq.shards.pack.pack import pack
from medvq.shards.source.folder import FolderSource
from medvq.shards.source.samples import Sample


def jpeg(seed: int, size: tuple[int, int] = (200, 240), mode: str = "RGB", **options: object) -> bytes:
    """A smooth picture with some noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize(
        size[::-1], Image.Resampling.BICUBIC
    )
    noisy = np.clip(np.asarray(coarse, np.int16) + rng.integers(-12, 13, (*size, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of several sizes, grey and colour, with and without comments."""
    root = tmp_path_factory.mktemp("cells")
    for i in range(60):
        path = root / ("train" if i < 50 else "val") / ("a" if i % 2 else "b") / f"{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = "L" if i % 7 == 0 else "RGB"
        path.write_bytes(jpeg(i, (200 + i % 3, 240), mode, progressive=i % 3 == 0, comment=b"x" * (i % 2)))
    return root


def test_statistics_are_those_of_the_decoded_training_pixels(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "out", processes=1)
    dataset = Dataset.open(tmp_path / "out")
    firsts, seconds = [], []
    for row in np.flatnonzero(dataset.column("split") == dataset.splits.index("train")).tolist():
        x = decode_image(dataset.read(row), 3).reshape(-1, 3) / 255
        firsts.append(x.mean(0))
        seconds.append((x * x).mean(0))
    mean = np.mean(firsts, 0)
    found = dataset.manifest.statistics
    assert (found.split, found.images) == ("train", 50)
    np.testing.assert_allclose(found.mean, mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.std, np.sqrt(np.mean(seconds, 0) - mean**2), rtol=0, atol=1e-12)


def test_what_is_stored_depends_on_neither_processes_nor_parts(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(source, tmp_path / "one", processes=1)
    monkeypatch.setattr(examine, "PART", 7)
    monkeypatch.setattr("medvq.shards.pack.layout.PART", 7)
    pack(source, tmp_path / "three", processes=3)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "three" / path.name).read_bytes(), path.name


def test_damage_in_the_middle_of_a_jpeg_is_found() -> None:
    good, rng, found = jpeg(1), np.random.default_rng(0), 0
    assert decode(good, Recipe()).kept is not None
    for _ in range(150):
        data, at = bytearray(good), int(rng.integers(300, len(good) - 20))
        data[at : at + 16] = rng.bytes(16)
        try:
            decode(bytes(data), Recipe())
        except BadImage:
            found += 1
    assert found > 30
    with pytest.raises(BadImage, match="cut short"):
        decode(good[: len(good) // 2], Recipe())


def test_what_is_only_stripped_is_not_written_twice(source: Path, tmp_path: Path) -> None:
    files = sorted(source.rglob("*.jpg"))
    samples = [Sample(str(p.relative_to(source)), p.stat().st_size, 0, p.stem) for p in files]
    for part in examine.parts_of(samples, tmp_path, FolderSource(source, Recipe()), Recipe()):
        found = examine.parsed(examine.examine_part(part))
        assert list(tmp_path.iterdir()) == []
        assert all(e.image is not None and e.image.pieces is not None for e in found)
        assert any(e.image and e.image.length < s.size for e, s in zip(found, part.samples, strict=True))


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(splits=Splits(make={"val": Made(of="train", share=0.3)}))])
def test_look_alikes_are_looked_for_where_there_are_several_splits(tmp_path: Path, recipe: Recipe) -> None:
    for i in range(12):
        path = tmp_path / "cells" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(i % 2, quality=60 + 3 * i))
    pack(tmp_path / "cells", tmp_path / "out", recipe, processes=1)
    manifest = read_manifest(tmp_path / "out")
    assert bool(manifest.near_duplicates) == (len(manifest.splits) > 1)
