"""Colour, blur and noise: as torchvision changes each image, by draws that no number of workers changes."""

import pytest
import torch

from medvq.config.augment import Augment, Blur, Noise
from medvq.models.draws import Draws
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.loader import Loader
from medvq.shards.load.view import View, ViewPart
from medvq.train.augmentation.chunks import IN_CACHE
from medvq.train.augmentation.photometric import CHANGES, add_noise, blur, recolour
from medvq.train.batch_builder import BatchBuilder
from medvq.train.loop import in_parts
from medvq.train.pixels import Pixels

COLOUR = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.2}
KERNELS = {
    "brightness": "adjust_brightness",
    "contrast": "adjust_contrast",
    "saturation": "adjust_saturation",
    "hue": "adjust_hue",
}


def images(count=12, channels=3, size=32):
    """(count, channels, size, size) in [0, 1]; the first grey, the second of one colour, the third clipped."""
    x = torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))
    x[0], x[1] = x[0].mean(0), x[1, :, :1, :1]
    x[2] = (x[2] * 3 - 1).clamp(0, 1)
    return x


def amounts(name, count):
    """(count, 1, 1, 1) parameters; the last is neutral."""
    drawn = torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    drawn = drawn - 0.5 if name == "hue" else drawn * 2
    drawn[-1] = 0.0 if name == "hue" else 1.0
    return drawn


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CHANGES)
def test_colours_change_as_torchvision_changes_each_image(name, channels, torchvision):
    if channels == 1 and name in ("saturation", "hue"):
        return
    x, drawn = images(channels=channels), amounts(name, 12)
    kernel = getattr(torchvision, KERNELS[name])
    want = torch.stack([kernel(i, a) for i, a in zip(x, drawn.flatten().tolist(), strict=True)])
    found = CHANGES[name](x, drawn)
    assert torch.allclose(found, want, atol=1e-5)
    assert torch.equal(found[-1], x[-1])
    assert not torch.allclose(found[3:-1], x[3:-1], atol=1e-2)


@pytest.mark.parametrize("size", [32, 160])
def test_images_are_blurred_as_torchvision_blurs_each(size, torchvision):
    x, draws = images(size=size), Draws(0, 1)
    assert x.numel() > IN_CACHE or size < 160  # the larger ones are blurred in parts
    sigma = 0.5 + 1.5 * draws.uniform((12,), "blur")
    want = torch.stack([torchvision.gaussian_blur(i, [13, 13], [s, s]) for i, s in zip(x, sigma.tolist(), strict=True)])
    assert torch.allclose(blur(x, Blur(sigma=(0.5, 2.0)), draws), want, atol=1e-5)


def test_a_blur_wider_than_the_image_and_one_of_nothing():
    x = images(size=8)
    assert torch.isfinite(blur(x, Blur(sigma=(9, 9)), Draws(0, 0))).all()
    assert torch.allclose(blur(x, Blur(sigma=(0, 1e-3)), Draws(0, 0)), x)


def test_noise_has_the_standard_deviation_that_was_drawn():
    x = torch.full((400, 3, 16, 16), 0.5)
    y = add_noise(x, Noise(std=(0.02, 0.1), p=0.5), Draws(0, 0))
    std = (y - x).flatten(1).std(1)
    noisy = std > 0
    assert 0.42 < noisy.float().mean() < 0.58
    assert 0.018 < std[noisy].min() < 0.025
    assert 0.093 < std.max() < 0.105
    y = add_noise(torch.zeros(4, 1, 8, 8), Noise(std=(0.3, 0.3)), Draws(0, 0))
    assert y.min() == 0
    assert y.max() > 0


def test_colours_change_in_the_order_of_the_documentation():
    x, settings, draws = images(), Augment(**COLOUR), Draws(0, 4)
    want = x
    for name in ("brightness", "contrast", "saturation", "hue"):
        amount = (draws.uniform((12,), name) * 2 - 1) * COLOUR[name] + (name != "hue")
        want = CHANGES[name](want, amount.view(-1, 1, 1, 1))
    assert torch.allclose(recolour(x, settings, draws), want, atol=1e-6)


@pytest.mark.parametrize("name", CHANGES)
def test_colours_are_drawn_from_their_range_and_with_their_probability(name):
    grey, red = torch.tensor([0.25] * 3), torch.tensor([0.5, 0.25, 0.25])
    x = (red if name in ("saturation", "hue") else grey).view(1, 3, 1, 1).repeat(2000, 1, 2, 2)
    x[:, :, :1] *= 2 if name == "contrast" else 1
    y = recolour(x, Augment(**{name: {"strength": 0.2, "p": 0.4}}), Draws(0, 0))
    changed = (x != y).flatten(1).any(1)
    assert 0.36 < changed.float().mean() < 0.44
    if name == "hue":  # red turns towards green at one end, towards blue at the other, by at most 0.2 of a circle
        green = (y[:, 1] - 0.25).amax((1, 2)) / 0.25
        assert 0.95 < green.max() <= 1
        return
    factor = {
        "brightness": y[:, 0, 0, 0] / 0.25,
        "contrast": (y[:, 0, 0, 0] - y[:, 0, 1, 0]) / 0.25,
        "saturation": (y[:, 0, 0, 0] - y[:, 1, 0, 0]) / 0.25,
    }[name]
    assert 0.799 < factor.min() < 0.805
    assert 1.195 < factor.max() < 1.201


@pytest.fixture
def built(smear):
    """Builds the training batches of a view with masks, from one rank of a world."""
    view = View(parts=(ViewPart(dataset=Dataset.open(smear)),), size=(32, 32), masks=True)
    pixels = Pixels([([0.7, 0.5, 0.6], [0.2, 0.25, 0.1])], torch.device("cpu"))

    def _built(settings, rank=0, world=1, start=0):
        builder = BatchBuilder(settings=settings, as_published=(), pixels=pixels, device=torch.device("cpu"))
        with Loader(view, 24, 0, rank, world) as loader:
            for step, read in enumerate(loader.epoch(0, start), start):
                draws = Draws(3, step, rank, world)
                yield builder.training(read, draws), draws, pixels.normalize(read.image, read.part)

    return _built


def test_nothing_is_on_by_default(built):
    assert not Augment().changes_colour
    assert not Augment().degrades
    for batch, _, plain in built(Augment()):
        assert torch.equal(batch.x, plain)


@pytest.mark.parametrize("world", [2, 4])
def test_every_number_of_workers_sees_the_same_pixels(built, every_change, world):
    settings = Augment(**every_change)
    whole = list(built(settings))
    ranks = [list(built(settings, rank, world)) for rank in range(world)]
    assert len(whole) > 2
    for step, (batch, _, plain) in enumerate(whole):
        for field in ("x", "masked"):
            parts = torch.cat([getattr(rank[step][0], field) for rank in ranks])
            assert torch.equal(getattr(batch, field), parts)
        assert not torch.allclose(batch.x, plain, atol=0.1)


def test_a_resumed_epoch_sees_the_same_pixels(built, every_change):
    settings = Augment(**every_change)
    for (whole, _, _), (resumed, _, _) in zip(list(built(settings))[2:], built(settings, start=2), strict=True):
        assert torch.equal(whole.x, resumed.x)


def test_parts_of_an_accumulated_batch_see_the_same_pixels(built, every_change):
    """The parts are cut from the finished batch; masks and labels go with them."""
    for batch, draws, _ in built(Augment(**every_change)):
        parts = [part for part, _ in in_parts(batch, draws, 3)]
        assert torch.equal(batch.x, torch.cat([p.x for p in parts]))
        assert torch.equal(batch.masked, torch.cat([p.masked for p in parts]))


def unit(x):
    """Normalized pixels in [0, 1] again."""
    return x * torch.tensor([0.2, 0.25, 0.1]).view(3, 1, 1) + torch.tensor([0.7, 0.5, 0.6]).view(3, 1, 1)


def test_colour_blur_and_noise_change_pixels_and_not_normalized_values(built):
    colour, optics = Augment(**COLOUR), Augment(blur=1, noise=0.05)
    for batch, draws, plain in built(colour):
        assert torch.allclose(unit(batch.x), recolour(unit(plain), colour, draws), atol=1e-5)
    for batch, draws, plain in built(optics):
        want = add_noise(blur(unit(plain), optics.blur, draws), optics.noise, draws)
        assert torch.allclose(unit(batch.x), want, atol=1e-5)


def test_changes_stay_inside_the_range_of_pixels(built):
    for batch, _, _ in built(Augment(brightness=1, contrast=1, saturation=1, hue=0.5, noise=0.3)):
        u = unit(batch.x)
        assert u.min() > -1e-6
        assert u.max() < 1 + 1e-6
        assert (u < 1e-6).float().mean() > 0.01
        assert (u > 1 - 1e-6).float().mean() > 0.01


def test_corners_keep_the_fill_when_colours_change(built):
    """Colour changes before an image moves: what comes from outside is the mean colour, 0, in every image."""
    for batch, _, _ in built(Augment(scale=[0.5, 0.5], brightness=1, hue=0.5)):
        assert (batch.x[:, :, 0, 0] == 0).all()
