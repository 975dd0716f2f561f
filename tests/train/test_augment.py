"""Augmentation: pixels of a global batch do not depend on how it is divided among ranks; masks move with images."""

import pytest
import torch

from medvq.config.data import Augment
from medvq.models.draws import Draws
from medvq.train.augment import augment, masked
from medvq.train.pixels import Pixels
from medvq.train.rotate import IN_CACHE, rotate

SETTINGS = Augment(flip=True, rotate=180)


def pictures(x, settings, draws, **options):
    return augment(x, None, settings, draws, **options)[0]


def discs(n, size=32):
    """Images (n, 1, size, size) of a disc off the centre, and masks that keep exactly the disc."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    inside = ((x - size * 0.6) ** 2 + (y - size * 0.45) ** 2 < (size / 5) ** 2).expand(n, 1, size, size)
    return inside.float() * 2 - 1, inside.to(torch.uint8) * 255


@pytest.mark.parametrize("world", [2, 4])
def test_every_number_of_ranks_sees_the_same_pixels(world):
    x, keep = torch.rand(8, 3, 16, 16), (torch.rand(8, 1, 16, 16) > 0.5).to(torch.uint8) * 255
    whole = augment(x, keep, SETTINGS, Draws(3, 5))
    parts = [
        augment(a, b, SETTINGS, Draws(3, 5, rank, world))
        for rank, (a, b) in enumerate(zip(x.chunk(world), keep.chunk(world), strict=True))
    ]
    assert torch.equal(whole[0], torch.cat([p[0] for p in parts]))
    assert torch.equal(whole[1], torch.cat([p[1] for p in parts]))
    noisy = [masked(*p, Draws(3, 5, rank, world)) for rank, p in enumerate(parts)]
    assert torch.equal(masked(*whole, Draws(3, 5)), torch.cat(noisy))
    assert not torch.equal(whole[0], pictures(x, SETTINGS, Draws(3, 6)))


def test_flips_mirror_whole_images():
    x = torch.rand(64, 1, 4, 4)
    y = pictures(x, Augment(flip=True), Draws(0, 0))
    kinds = [x, x.flip(-1), x.flip(-2), x.flip(-1, -2)]
    found = [next(k for k, z in enumerate(kinds) if torch.equal(z[i], y[i])) for i in range(64)]
    assert set(found) == {0, 1, 2, 3}


def test_corners_of_a_rotated_image_take_the_mean_colour():
    y = pictures(torch.ones(16, 3, 32, 32), Augment(rotate=180), Draws(0, 0))
    assert (y[:, :, 0, 0] == 0).any()
    assert torch.allclose(y[:, :, 14:18, 14:18], torch.ones(()), atol=1e-5)


def test_corners_can_be_black_in_each_datasets_own_units():
    pixels = Pixels([([0.5] * 3, [0.25] * 3), ([0.2] * 3, [0.1] * 3)], torch.device("cpu"))
    part = torch.tensor([0, 1] * 8)
    y = pictures(torch.ones(16, 3, 32, 32), Augment(rotate=180), Draws(0, 0), fill=pixels.black(part))
    corner = pixels.unit(y, part)[:, :, 0, 0]
    black = corner.abs().amax(1) < 1e-6
    assert black[::2].sum() > 4
    assert black[1::2].sum() > 4


def test_masks_turn_and_flip_with_their_images():
    image, keep = discs(32)
    x, turned = augment(image, keep, SETTINGS, Draws(1, 2))
    assert set(turned.unique().tolist()) == {0, 255}
    y, x_ = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    middle = ((x_ - 15.5) ** 2 + (y - 15.5) ** 2 < 15**2).expand_as(turned)
    agree = ((x > 0) == (turned > 0))[middle].float().mean()
    assert agree > 0.98
    assert (turned != keep).any()


def test_new_corners_of_a_mask_keep_the_pixel():
    keep = torch.zeros(16, 1, 32, 32, dtype=torch.uint8)
    _, turned = augment(torch.ones(16, 3, 32, 32), keep, Augment(rotate=180), Draws(0, 0))
    assert (turned[:, 0, 0, 0] == 255).any()
    assert (turned[:, 0, 14:18, 14:18] == 0).all()


def test_noise_comes_only_where_a_mask_does_not_keep():
    x = torch.randn(256, 3, 8, 8) * 3
    keep = torch.full((256, 1, 8, 8), 255, dtype=torch.uint8)
    assert torch.equal(masked(x, keep, Draws(0, 0)), x)  # no mask: unchanged, and nothing is clipped
    keep[:, :, :, 4:] = 0
    y = masked(x, keep, Draws(0, 0))
    assert torch.equal(y[..., :4], x[..., :4])
    noise = y[..., 4:]
    assert noise.mean().abs() < 0.05
    assert (noise.std() - 1).abs() < 0.05


def test_nothing_asked_for_changes_nothing():
    x = torch.rand(2, 3, 8, 8)
    assert pictures(x, Augment(), Draws(0, 0)) is x


@pytest.mark.parametrize("shape", [(5, 3, 32, 32), (3, 1, 24, 40), (4, 3, 160, 160)])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("filled", [False, True])
def test_a_batch_turns_as_torchvision_turns_each_image(shape, mode, filled, torchvision):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    assert x.numel() > IN_CACHE or shape[-1] < 160  # the largest is turned in parts
    angles = [-170.0, -33.3, 0.5, 90.1, 179.0][: len(x)]
    fill = torch.arange(len(x) * shape[1], dtype=torch.float32).view(len(x), shape[1], 1, 1) if filled else None
    colours = [None] * len(x) if fill is None else fill.flatten(1).tolist()
    kind = torchvision.InterpolationMode(mode)
    want = torch.stack(
        [torchvision.rotate(i, a, interpolation=kind, fill=c) for i, a, c in zip(x, angles, colours, strict=True)]
    )
    assert (rotate(x, angles, fill, mode) - want).abs().gt(1e-3).float().mean() < (1e-3 if mode == "nearest" else 1e-9)


def test_masks_turn_as_torchvision_turns_them(torchvision):
    keep = discs(6)[1]
    angles = [10.0, 45.0, 100.0, -60.0, 171.0, -3.0]
    want = torch.stack([torchvision.rotate(m, a, fill=255) for m, a in zip(keep, angles, strict=True)])
    found = rotate(keep, angles, torch.full((1, 1, 1, 1), 255.0), "nearest")
    assert found.dtype == torch.uint8
    assert (found != want).float().mean() < 1e-3


def test_images_that_were_turned_before_stay_to_the_bit():
    x, _ = discs(6)
    turned = torch.tensor([True, False, True, False, False, True])
    y = pictures(x, Augment(rotate=180), Draws(0, 0), turned=turned)
    assert torch.equal(y[turned], x[turned])
    assert not torch.equal(y[~turned], x[~turned])
    assert torch.equal(pictures(x, Augment(rotate=180), Draws(0, 0), turned=turned | True), x)
