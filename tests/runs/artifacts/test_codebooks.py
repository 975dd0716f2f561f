"""Images of codes: near codes have similar colours, and the files are written."""

import numpy as np
import pytest
from PIL import Image

from medvq.runs.artifacts.codebooks import code_colours, code_maps, codebook_picture, principal


def test_axes_are_those_of_largest_spread_and_do_not_turn_over():
    codes = np.random.default_rng(0).normal(size=(50, 4)) * [1, 9, 3, 0.1]
    found = principal(codes, 2)
    assert found.shape == (50, 2)
    for axis, number in ((0, 1), (1, 2)):
        assert np.corrcoef(found[:, axis], codes[:, number])[0, 1] > 0.95


@pytest.mark.parametrize("dim", [1, 2, 3, 64])
def test_like_codes_look_alike(dim):
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(4, dim)) * 10
    codes = centres[np.arange(40) % 4] + rng.normal(size=(40, dim)) * 0.01
    colours = code_colours(codes)
    assert colours.shape == (40, 3)
    assert 0 <= colours.min() <= colours.max() <= 1
    same, other = np.linalg.norm(colours[0] - colours[4]), np.linalg.norm(colours[0] - colours[1])
    assert same < other


def test_pictures_are_written(tmp_path):
    rng = np.random.default_rng(2)
    books = {f"level{i}": (rng.normal(size=(16, i + 1)), np.arange(16) * (i % 2)) for i in range(3)}
    codebook_picture(books, tmp_path / "books.png")
    images = rng.random((10, 24, 32, 1))
    maps = {name: (rng.integers(0, 16, (10, 3, 4)), codes) for name, (codes, _) in books.items()}
    code_maps(images, maps, images, tmp_path / "maps.png")
    wide, high = Image.open(tmp_path / "maps.png").size
    assert wide / high == pytest.approx((8 * 0.95 + 0.64) / (5 * (0.95 * 24 / 32 + 0.04) + 0.04), rel=0.05)
    assert Image.open(tmp_path / "books.png").size[0] > 500
