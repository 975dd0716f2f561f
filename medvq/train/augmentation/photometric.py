"""Random changes of colour, sharpness and noise of training images, each image with its own parameters.

The pixels are those that torchvision's kernels give image by image. Those kernels take one parameter per call. The
same formula for a whole batch is 1.5 to 5 times faster than a call for each image (`tests/bench/train.py`).

Images are float32 in [0, 1], before normalization.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medvq.config.augment import Augment, Blur, Noise
from medvq.models.draws import Draws
from medvq.train.augmentation.chunks import chunks


def recolour(x: Tensor, settings: Augment, draws: Draws) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order, of images x (B, C, H, W) in [0, 1].

    Saturation and hue need three channels.
    """
    parameters = {name: value.view(-1, 1, 1, 1).to(x.device) for name, value in _drawn(settings, draws, len(x)).items()}
    changed = []
    for here in chunks(x):
        images = x[here].contiguous()
        for name, change in CHANGES.items():
            if name in parameters:
                images = change(images, parameters[name][here])
        changed.append(images)
    return torch.cat(changed)


def blur(x: Tensor, settings: Blur, draws: Draws) -> Tensor:
    """Blur images x (B, C, H, W), each by a Gaussian with its own standard deviation.

    The kernel reaches three times the largest standard deviation that may be drawn. Pixels beyond an edge are mirrored.
    """
    count, channels, height, width = x.shape
    low, high = settings.sigma
    sigma = (low + (high - low) * draws.uniform((count,), "blur")).clamp_min(1e-3)
    applies = draws.chance(count, settings.p, "blur applies").view(-1, 1, 1, 1).to(x.device)
    radius = min(math.ceil(3 * high), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1)
    kernels = torch.softmax(-(offsets / sigma[:, None]).square() / 2, 1).to(x.device)  # (B, K)
    blurred = []
    for here in chunks(x):
        images, groups = x[here].contiguous(), (here.stop - here.start) * channels
        kernel = kernels[here].repeat_interleave(channels, 0)[:, None]  # (B·C, 1, K)
        padded = F.pad(images, [radius] * 4, mode="reflect").view(1, groups, height + 2 * radius, width + 2 * radius)
        out = F.conv2d(F.conv2d(padded, kernel[..., None], groups=groups), kernel[:, :, None], groups=groups)
        blurred.append(torch.where(applies[here], out.view(images.shape), images))
    return torch.cat(blurred)


def add_noise(x: Tensor, settings: Noise, draws: Draws) -> Tensor:
    """Add normal noise to images x (B, C, H, W) in [0, 1], each with its own standard deviation, and clip them."""
    low, high = settings.std
    std = low + (high - low) * draws.uniform((len(x),), "noise")
    std = torch.where(draws.chance(len(x), settings.p, "noise applies"), std, 0.0).view(-1, 1, 1, 1).to(x.device)
    return torch.addcmul(x, draws.normal(x.shape, "noise of pixels", x.device), std).clamp_(0, 1)


def brighten(x: Tensor, factor: Tensor) -> Tensor:
    """Return images x (B, C, H, W) times `factor` (B, 1, 1, 1), clipped to [0, 1]."""
    return (x * factor).clamp_(0, 1)


def change_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance of x (B, C, H, W) from the mean luminance of each image by `factor` (B, 1, 1, 1)."""
    # The order of a sum depends on the number of images in the batch. In float64 that does not show.
    mean = _luminance(x).mean((1, 2, 3), keepdim=True, dtype=torch.float64).to(x.dtype)
    return _blend(x, mean, factor)


def change_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance of x (B, 3, H, W) from the luminance of each pixel by `factor` (B, 1, 1, 1)."""
    return _blend(x, _luminance(x), factor)


def turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue of x (B, 3, H, W), in the HSV colour model, by `turns` (B, 1, 1, 1) of the colour circle.

    Images whose turn is 0 keep their exact bits.
    """
    red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    value, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = value - low
    divisor = chroma.clamp_min(1e-12)  # a grey pixel has no hue, and chroma 0 below
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    hue += 6 * turns  # in sixths of the circle
    hue -= (hue / 6).floor_().mul_(6)
    shares = torch.cat([(hue - 3).abs_().sub_(1), 2 - (hue - 2).abs_(), 2 - (hue - 4).abs_()], 1).clamp_(0, 1)
    return torch.where(turns == 0, x, shares.mul_(chroma).add_(low))


CHANGES = {
    "brightness": brighten,
    "contrast": change_contrast,
    "saturation": change_saturation,
    "hue": turn_hue,
}


def _drawn(settings: Augment, draws: Draws, count: int) -> dict[str, Tensor]:
    """Draw a parameter (count,) for each change of colour that is on; neutral for images that it does not apply to."""
    found = {}
    for name in CHANGES:
        change = getattr(settings, name)
        if change is not None:
            neutral = 0.0 if name == "hue" else 1.0
            value = neutral + change.strength * (draws.uniform((count,), name) * 2 - 1)
            found[name] = torch.where(draws.chance(count, change.p, f"{name} applies"), value, neutral)
    return found


def _luminance(x: Tensor) -> Tensor:
    """Return (B, 1, H, W): 0.2989 R + 0.587 G + 0.114 B, or a grey image as it is."""
    if x.shape[1] == 1:
        return x
    return (x[:, 0:1] * 0.2989).add_(x[:, 1:2], alpha=0.587).add_(x[:, 2:3], alpha=0.114)


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return factor·x + (1 − factor)·other, clipped to [0, 1]."""
    return torch.addcmul(other * (1 - factor), x, factor).clamp_(0, 1)
