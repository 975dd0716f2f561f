"""Augmentation: pixels of a global batch do not depend on how it is divided among ranks; masks move with images."""

import pytest
import torch

from medvq.config.augment import Augment
from medvq.models.draws import Draws
from medvq.train.augmentation import geometric
from medvq.train.augmentation.chunks import IN_CACHE
from medvq.train.augmentation.geometric import augment, masked
from medvq.train.augmentation.warp import Motion, warp
from medvq.train.pixels import Pixels

SETTINGS = Augment(flip=True, rotate=180)
MOVES = {
    "scale": [0.7, 1.4],
    "translate": 0.2,
    "elastic": {"displacement": 2, "spacing": 8},
    "rotate": 180,
    "flip": True,
}


def rotation(angles):
    return Motion(
        angle=torch.tensor(angles, dtype=torch.float64),
        scale=torch.ones(len(angles)),
        shift=torch.zeros(len(angles), 2),
    )


def pictures(x, settings, draws, **options):
    return augment(x, None, settings, draws, **options)[0]


def discs(n, size=32):
    """Images (n, 1, size, size) of a disc off the centre, and masks that keep exactly the disc."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    inside = ((x - size * 0.6) ** 2 + (y - size * 0.45) ** 2 < (size / 5) ** 2).expand(n, 1, size, size)
    return inside.float() * 2 - 1, inside.to(torch.uint8) * 255


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("settings", [SETTINGS, Augment(**MOVES)], ids=["rotate", "all"])
def test_every_number_of_ranks_sees_the_same_pixels(world, settings):
    x, keep = torch.rand(8, 3, 16, 16), (torch.rand(8, 1, 16, 16) > 0.5).to(torch.uint8) * 255
    whole = augment(x, keep, settings, Draws(3, 5))
    parts = [
        augment(a, b, settings, Draws(3, 5, rank, world))
        for rank, (a, b) in enumerate(zip(x.chunk(world), keep.chunk(world), strict=True))
    ]
    assert torch.equal(whole[0], torch.cat([p[0] for p in parts]))
    assert torch.equal(whole[1], torch.cat([p[1] for p in parts]))
    noisy = [masked(*p, Draws(3, 5, rank, world)) for rank, p in enumerate(parts)]
    assert torch.equal(masked(*whole, Draws(3, 5)), torch.cat(noisy))
    assert not torch.equal(whole[0], pictures(x, settings, Draws(3, 6)))


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
    assert (warp(x, rotation(angles), fill, mode) - want).abs().gt(1e-3).float().mean() < (
        1e-3 if mode == "nearest" else 1e-9
    )


def test_masks_turn_as_torchvision_turns_them(torchvision):
    keep = discs(6)[1]
    angles = [10.0, 45.0, 100.0, -60.0, 171.0, -3.0]
    want = torch.stack([torchvision.rotate(m, a, fill=255) for m, a in zip(keep, angles, strict=True)])
    found = warp(keep, rotation(angles), torch.full((1, 1, 1, 1), 255.0), "nearest")
    assert found.dtype == torch.uint8
    assert (found != want).float().mean() < 1e-3


def test_images_that_were_turned_before_stay_to_the_bit():
    x, _ = discs(6)
    turned = torch.tensor([True, False, True, False, False, True])
    y = pictures(x, Augment(rotate=180), Draws(0, 0), turned=turned)
    assert torch.equal(y[turned], x[turned])
    assert not torch.equal(y[~turned], x[~turned])
    assert torch.equal(pictures(x, Augment(rotate=180), Draws(0, 0), turned=turned | True), x)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("filled", [False, True])
def test_a_batch_is_scaled_and_shifted_as_torchvision_does_each_image(mode, filled, torchvision):
    x = torch.rand(5, 3, 24, 40, generator=torch.Generator().manual_seed(1))
    angles, scales, shifts = (
        [0.0, 33.0, -120.0, 0.0, 7.0],
        [1.5, 0.6, 1.1, 1.0, 1.0],
        [[0, 0], [3, -5], [1, 2], [4, 4], [0, 0]],
    )
    fill = torch.arange(15.0).view(5, 3, 1, 1) if filled else None
    want = torch.stack(
        [
            torchvision.affine(
                image, angle=-angle, translate=shift, scale=scale, shear=[0.0, 0.0],
                interpolation=torchvision.InterpolationMode(mode), fill=colour,
            )
            for image, angle, scale, shift, colour in zip(
                x, angles, scales, shifts, fill.flatten(1).tolist() if filled else [None] * 5, strict=True
            )
        ]
    )  # fmt: skip
    motion = Motion(angle=torch.tensor(angles), scale=torch.tensor(scales), shift=torch.tensor(shifts).float())
    assert (warp(x, motion, fill, mode) - want).abs().gt(1e-3).float().mean() < (2e-3 if mode == "nearest" else 1e-9)


def test_a_batch_bends_as_torchvision_bends_each_image(torchvision):
    x = torch.rand(4, 3, 24, 40, generator=torch.Generator().manual_seed(1))
    bend = torch.randn(4, 2, 4, 6, generator=torch.Generator().manual_seed(2)) * 2
    motion = Motion(angle=torch.zeros(4), scale=torch.ones(4), shift=torch.zeros(4, 2), bend=bend)
    pixels = torch.nn.functional.interpolate(bend, size=(24, 40), mode="bicubic", align_corners=True)
    places = pixels.permute(0, 2, 3, 1) * torch.tensor([2 / 40, 2 / 24])  # torchvision counts from -1 to 1
    want = torch.stack([torchvision.elastic(i, d[None], fill=[0.5] * 3) for i, d in zip(x, places, strict=True)])
    assert torch.allclose(warp(x, motion, torch.full((1, 3, 1, 1), 0.5), "bilinear"), want, atol=1e-4)
    # A control point that stands on a pixel moves that pixel by its own displacement.
    assert torch.allclose(pixels[:, :, 0, 0], bend[:, :, 0, 0])
    assert torch.allclose(pixels[:, :, -1, -1], bend[:, :, -1, -1], atol=1e-5)


@pytest.mark.parametrize("name", ["scale", "translate", "elastic"])
def test_motions_are_drawn_from_their_ranges_and_with_their_probability(name, monkeypatch):
    seen = []
    monkeypatch.setattr(geometric, "warp", lambda x, motion, *rest: seen.append(motion) or warp(x, motion, *rest))
    given = {"scale": {"factor": [0.5, 2]}, "translate": {"fraction": 0.25}, "elastic": MOVES["elastic"]}[name]
    x = torch.rand(2000, 1, 8, 16)
    y = pictures(x, Augment(**{name: {**given, "p": 0.3}}), Draws(0, 0))
    (motion,) = seen  # only the images that move
    assert 0.27 < len(motion) / 2000 < 0.33
    unchanged = (x == y).flatten(1).all(1)
    assert unchanged.sum() == 2000 - len(motion)
    assert torch.equal(motion.angle, torch.zeros(len(motion)))
    if name == "scale":
        assert 0.5 <= motion.scale.min() < 0.6
        assert 1.9 < motion.scale.max() < 2
    if name == "translate":
        assert set(motion.shift[:, 0].tolist()) == set(range(-4, 5))
        assert set(motion.shift[:, 1].tolist()) == set(range(-2, 3))
    if name == "elastic":
        assert motion.bend.shape == (len(motion), 2, 2, 3)  # 8 pixels apart over 8 x 16 pixels
        assert 1.9 < motion.bend.std() < 2.1


def test_a_square_and_its_mask_move_together():
    """Every motion at once: what is bright in the image stays what the mask keeps."""
    x, keep = torch.full((32, 1, 48, 48), -1.0), torch.zeros(32, 1, 48, 48, dtype=torch.uint8)
    x[:, :, 12:30, 16:32], keep[:, :, 12:30, 16:32] = 1.0, 255
    y, moved = augment(
        x, keep, Augment(**MOVES, fill="black"), Draws(1, 2), fill=torch.full((1, 1, 1, 1), -1.0), corner=0
    )
    assert set(moved.unique().tolist()) == {0, 255}
    agree = ((y > 0) == (moved > 0)).flatten(1).float().mean(1)
    assert agree.min() > 0.98
    assert ((moved > 0) == (keep > 0)).flatten(1).all(1).sum() == 0
    assert (moved > 0).flatten(1).sum(1).float().std() > 20  # they are not all of one size


def test_a_whole_shift_keeps_the_bits_that_stay_inside():
    x = torch.rand(16, 3, 20, 20)
    y = pictures(x, Augment(translate=0.2), Draws(0, 3))
    found = 0
    for image, moved in zip(x, y, strict=True):
        for right in range(-4, 5):
            for down in range(-4, 5):
                rolled = image.roll((down, right), (1, 2))
                inside = slice(max(down, 0), 20 + min(down, 0)), slice(max(right, 0), 20 + min(right, 0))
                found += torch.allclose(rolled[:, *inside], moved[:, *inside], atol=1e-5)
    assert found == 16
