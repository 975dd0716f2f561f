"""Similarity of two images: SSIM, PSNR and mean squared error of each image.

SSIM is implemented here because neither scikit-image nor torchmetrics gives the mean inside a foreground mask, and
torchmetrics includes border pixels whose windows extend beyond the image. Tests compare it with both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
IN_CACHE = 1 << 15
"""Number of pixels that a CPU processes at once, so that intermediate results stay in its cache."""


def ssim_map(a: Tensor, b: Tensor, data_range: float | Tensor) -> Tensor:
    """Return the structural similarity at every pixel whose window lies inside the image (Wang et al. 2004, eq. 13).

    The window is a Gaussian of 11 x 11 pixels with σ = 1.5; variances are population variances.

    Args:
        a: (B, C, H, W), H and W at least 11.
        b: (B, C, H, W).
        data_range: difference between the largest and the smallest possible pixel value, such as 1 for pixels in
            [0, 1]; or (B,), one for each image.

    Returns:
        (B, C, H - 10, W - 10) float64 in [-1, 1].

    Raises:
        ValueError: the shapes differ, or the images are smaller than the window.
    """
    if a.shape != b.shape or a.ndim != 4 or min(a.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM of {tuple(a.shape)} and {tuple(b.shape)}; sides must be {WINDOW} or more")
    span = torch.as_tensor(data_range, dtype=torch.float64, device=a.device).reshape(-1, 1, 1, 1)
    at_once = max(1, IN_CACHE // math.prod(a.shape[1:]) if a.device.type == "cpu" else len(a))
    # In float32, E[x²] - E[x]² of a flat bright patch would be nothing but rounding error.
    whole = (a.double(), b.double(), span.expand(len(a), 1, 1, 1))
    starts = range(0, max(1, len(a)), at_once)
    return torch.cat([_ssim_map(*(x[start : start + at_once] for x in whole)) for start in starts])


def _ssim_map(a: Tensor, b: Tensor, span: Tensor) -> Tensor:
    """Return the map (B, C, H - 10, W - 10) of a and b (B, C, H, W) with data ranges (B, 1, 1, 1), all float64."""
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    mean_a, mean_b, aa, bb, ab = (_blur(x) for x in (a, b, a * a, b * b, a * b))
    var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    return (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def ssim(a: Tensor, b: Tensor, data_range: float | Tensor, foreground: Tensor | None = None) -> Tensor:
    """Return the mean SSIM of each image, (B,) float32.

    Args:
        a: (B, C, H, W), H and W at least 11.
        b: (B, C, H, W).
        data_range: as in `ssim_map`.
        foreground: (B, 1, H, W) bool; if given, the mean is taken over the pixels inside it, and is NaN for an image
            without such pixels.

    Raises:
        ValueError: the shapes differ, or the images are smaller than the window.
    """
    found = ssim_map(a, b, data_range)
    if foreground is None:
        return found.flatten(1).mean(1).float()
    edge = WINDOW // 2
    inside = foreground[..., edge:-edge, edge:-edge].expand_as(found)
    return ((found * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)).float()


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared error of each image, (B,); a and b are (B, C, H, W)."""
    return (a - b).square().flatten(1).mean(1)


def psnr(squared: Tensor, data_range: float) -> Tensor:
    """Return the peak signal-to-noise ratio in dB of mean squared errors (B,); at most 100 dB for a range of 1.

    Averaged over images it is the mean of PSNRs, not the PSNR of the mean error.
    """
    return 10 * (data_range**2 / squared.clamp_min(1e-10)).log10()


def own_range(image: Tensor) -> Tensor:
    """Return max - min of each image (B, C, H, W) as (B,), which the report behind brain-vqvae took for the range."""
    low, high = image.flatten(1).aminmax(dim=1)
    return (high - low).clamp_min(1e-6)


def _blur(x: Tensor) -> Tensor:
    """Return the Gaussian-weighted means (B, C, H - 10, W - 10) of x (B, C, H, W)."""
    return _blur_along(_blur_along(x, 3), 2)


def _blur_along(x: Tensor, axis: int) -> Tensor:
    """Return Gaussian-weighted means along an axis, which gets 10 shorter.

    Summing shifted copies takes a tenth of the time of a convolution.
    """
    middle = WINDOW // 2
    weights = [math.exp(-((i - middle) ** 2) / (2 * SIGMA**2)) for i in range(WINDOW)]
    total, size = sum(weights), x.shape[axis] - WINDOW + 1
    out = x.narrow(axis, middle, size) * (weights[middle] / total)
    for i in range(middle):
        pair = x.narrow(axis, i, size) + x.narrow(axis, WINDOW - 1 - i, size)
        out.add_(pair, alpha=weights[i] / total)
    return out
