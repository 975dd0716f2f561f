"""Augmentation: the pixels of a global batch do not depend on how it is dealt to ranks."""

import pytest
import torch

from medvq.config.study import Augment
from medvq.models.draws import Draws
from medvq.train.augment import augment

SETTINGS = Augment(flip=True, rotate=180)


@pytest.mark.parametrize("world", [2, 4])
def test_every_number_of_ranks_sees_the_same_pixels(world):
    x = torch.rand(8, 3, 16, 16)
    whole = augment(x, SETTINGS, Draws(3, 5))
    parts = [augment(part, SETTINGS, Draws(3, 5, rank, world)) for rank, part in enumerate(x.chunk(world))]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, augment(x, SETTINGS, Draws(3, 6)))


def test_flips_mirror_whole_images():
    x = torch.rand(64, 1, 4, 4)
    y = augment(x, Augment(flip=True), Draws(0, 0))
    kinds = [x, x.flip(-1), x.flip(-2), x.flip(-1, -2)]
    found = [next(k for k, z in enumerate(kinds) if torch.equal(z[i], y[i])) for i in range(64)]
    assert set(found) == {0, 1, 2, 3}


def test_corners_of_a_rotated_image_take_the_mean_colour():
    y = augment(torch.ones(16, 3, 32, 32), Augment(rotate=180), Draws(0, 0))
    assert (y[:, :, 0, 0] == 0).any()
    assert torch.allclose(y[:, :, 14:18, 14:18], torch.ones(()), atol=1e-5)


def test_nothing_asked_for_changes_nothing():
    x = torch.rand(2, 3, 8, 8)
    assert augment(x, Augment(), Draws(0, 0)) is x
