"""JPEGs whose bytes pass through are checked at an eighth of their size, and the statistics stay those of pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvq.config.recipe import Recipe
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.image import statistics
from medvq.shards.image.bad import BadImage
from medvq.shards.image.decode import decode
from medvq.shards.image.glance import Eighths, glance
from medvq.shards.image.phash import NEAR, looks
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
    root = tmp_path_factory.mktemp("cells")
    for i in range(60):
        path = root / ("train" if i < 50 else "val") / ("a" if i % 2 else "b") / f"{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(i, mode="L" if i % 7 == 0 else "RGB", progressive=i % 3 == 0, comment=b"x" * (i % 2)))
    return root


def exact(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    firsts, seconds = [], []
    for path in sorted(folder.rglob("*.jpg")):
        x = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3) / 255
        firsts.append(x.mean(0))
        seconds.append((x * x).mean(0))
    mean = np.mean(firsts, 0)
    return mean, np.sqrt(np.mean(seconds, 0) - mean**2)


@pytest.mark.parametrize(("enough", "near"), [(200, 2e-4), (10, 1e-3)])
def test_statistics_are_those_of_pixels(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: int, near: float
) -> None:
    monkeypatch.setattr(statistics, "ENOUGH_IMAGES", enough)
    pack(source, tmp_path / "out", processes=1)
    found = read_manifest(tmp_path / "out").statistics
    mean, std = exact(source / "train")
    np.testing.assert_allclose(found.mean, mean, atol=near)
    np.testing.assert_allclose(found.std, std, atol=2 * near)


def test_what_is_stored_does_not_depend_on_the_glance(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(source, tmp_path / "full", processes=1)
    monkeypatch.setattr(statistics, "ENOUGH_IMAGES", 10)
    monkeypatch.setattr(examine, "PART", 7)
    monkeypatch.setattr("medvq.shards.pack.layout.PART", 7)
    reports = [pack(source, tmp_path / f"glance-{n}", processes=n) for n in (1, 3)]
    names = sorted(p.name for p in (tmp_path / "full").iterdir())
    for name in names:
        one, other = ((tmp_path / f"glance-{n}" / name).read_bytes() for n in (1, 3))
        assert one == other, name
        assert name == "manifest.json" or one == (tmp_path / "full" / name).read_bytes(), name
    assert {r.digest for r in reports} == {read_manifest(tmp_path / "full").digest}


def test_an_eighth_finds_the_damage_that_a_full_decode_finds() -> None:
    good, rng, found = jpeg(1), np.random.default_rng(0), 0
    assert glance(good, Recipe()) is not None
    for _ in range(150):
        data, at = bytearray(good), int(rng.integers(300, len(good) - 20))
        data[at : at + 16] = rng.bytes(16)
        outcomes = []
        for check in (glance, decode):
            try:
                check(bytes(data), Recipe())
                outcomes.append("")
            except BadImage as e:
                outcomes.append(str(e))
        assert outcomes[0] == outcomes[1]
        found += outcomes[0] != ""
    assert found > 30
    with pytest.raises(BadImage, match="cut short"):
        glance(good[: len(good) // 2], Recipe())


def test_only_bytes_that_pass_through_are_glanced_at() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    assert glance(jpeg(0), Recipe(channels=3)) is not None
    assert glance(jpeg(0, mode="L"), Recipe(channels=1)) is not None
    assert glance(jpeg(0), Recipe(size=(200, 240))) is not None
    for recipe in (Recipe(size=(64, 64)), Recipe(crop=(100, 100)), Recipe(channels=1), Recipe(store="png")):
        assert glance(jpeg(0), recipe) is None
    assert glance(jpeg(0, (190, 240)), Recipe()) is None
    assert glance(jpeg(0, mode="CMYK"), Recipe()) is None
    assert glance(jpeg(0, exif=turned), Recipe()) is None


def test_reduced_images_are_described_together_as_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    shapes = [(25, 30, 3), (25, 30), (25, 30, 3), (200, 24, 3), (24, 600), (25, 30, 3), (200, 24, 3)]
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    for room in (4_000_000, 3_000, 0):
        monkeypatch.setattr(Eighths, "ROOM", room)
        together = Eighths()
        for i, image in enumerate(images):
            together.add(i, image)
        found = together.described()
        for i, image in enumerate(images):
            assert found[i] == (statistics.sums_of(image), looks(image, eighth=True))
            total = image[:: max(1, len(image) // statistics.ENOUGH)].reshape(-1, *image.shape[2:])
            assert list(found[i][0].total) == np.atleast_1d(total.sum(0, dtype=np.int64)).tolist()


def test_what_is_only_stripped_is_not_written_twice(source: Path, tmp_path: Path) -> None:
    files = sorted(source.rglob("*.jpg"))
    samples = [Sample(str(p.relative_to(source)), p.stat().st_size, 0, p.stem) for p in files]
    for part in examine.parts_of(samples, tmp_path, FolderSource(source, Recipe()), Recipe()):
        found = examine.parsed(examine.examine_part(part))
        assert list(tmp_path.iterdir()) == []
        assert all(e.image is not None and e.image.pieces is not None for e in found)
        assert any(e.image and e.image.length < s.size for e, s in zip(found, part.samples, strict=True))


def test_an_eighth_looks_like_the_whole() -> None:
    for seed in range(20):
        seen = glance(jpeg(seed), Recipe())
        assert seen is not None
        whole = decode(jpeg(seed), Recipe()).pixels
        one, other = int(looks(seen.pixels, eighth=True), 16), int(looks(whole), 16)
        assert (one ^ other).bit_count() <= NEAR // 2
