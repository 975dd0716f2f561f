"""Compare SSIM, PSNR and squared error with scikit-image and torchmetrics, for several pixel ranges."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medvq.metrics.similarity import own_range, psnr, squared_error, ssim, ssim_map


def pairs(channels=1, size=(40, 33), batch=3, seed=0):
    """Return smooth images and noisy versions of them, (B, C, H, W) in [0, 1]."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, channels, 6, 6, generator=draw)
    image = torch.nn.functional.interpolate(image, size=size, mode="bilinear")
    noise = torch.randn(image.shape, generator=draw) * torch.tensor([0.01, 0.1, 0.4])[:, None, None, None]
    return image, (image + noise).clamp(0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("span", [1.0, 2.0, 255.0])
def test_ssim_is_scikit_images(channels, span):
    """SSIM has a Gaussian window of 11 pixels with σ 1.5 and population statistics, and is computed per image."""
    a, b = (x * span for x in pairs(channels))
    found = ssim(a, b, span)
    for i in range(len(a)):
        expected = structural_similarity(
            a[i].numpy().astype(np.float64),
            b[i].numpy().astype(np.float64),
            channel_axis=0,
            data_range=span,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert found[i].item() == pytest.approx(expected, abs=1e-6)


def test_the_range_must_be_the_true_one():
    """With a data range of 255 for pixels in [0, 1], SSIM of unrelated noise is almost 1."""
    noise, other = (torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    assert (ssim(noise, other, 1.0) < 0.1).all()
    assert (ssim(noise, other, 255.0) > 0.99).all()


def test_a_black_background_is_not_counted_in_the_foreground():
    """A background that is black in both images has SSIM 1 and raises the mean over the whole image."""
    image, noisy = pairs(size=(48, 48), batch=3)
    inside = torch.zeros(3, 1, 48, 48, dtype=torch.bool)
    inside[:2, :, 16:32, 16:32] = True
    image, noisy = image * inside, noisy * inside
    whole, fore = ssim(image, noisy, 1.0), ssim(image, noisy, 1.0, inside)
    assert whole[1] > fore[1] + 0.05
    found = ssim_map(image, noisy, 1.0)
    assert fore[1] == pytest.approx(found[1, 0, 11:27, 11:27].mean().item(), abs=1e-6)
    assert torch.isnan(fore[2])


@pytest.mark.parametrize("span", [1.0, 255.0])
def test_as_torchmetrics(span, torchvision):
    """The fixture makes torchvision importable, which torchmetrics needs."""
    from torchmetrics.functional.image import peak_signal_noise_ratio as their_psnr
    from torchmetrics.functional.image import structural_similarity_index_measure as their_ssim

    a, b = (x.double() * span for x in pairs(3))
    _, full = their_ssim(a, b, data_range=span, sigma=1.5, reduction="none", return_full_image=True)
    # Their mean includes pixels at the borders, whose windows extend into a reflection of the image.
    inside = full[..., 5:-5, 5:-5]
    assert torch.allclose(ssim_map(a, b, span), inside, atol=1e-6)
    assert torch.allclose(ssim(a, b, span).double(), inside.flatten(1).mean(1), atol=1e-6)
    errors = squared_error(a, b)
    expected = their_psnr(a, b, data_range=span, reduction="none", dim=(1, 2, 3))
    assert torch.allclose(psnr(errors, span), expected, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_inside_a_mask_it_is_the_mean_of_scikit_images_full_map(channels):
    """Foreground SSIM is the mean of the SSIM map over mask pixels whose window lies inside the image."""
    image, noisy = pairs(channels, size=(48, 40))
    y, x = torch.meshgrid(torch.arange(48), torch.arange(40), indexing="ij")
    inside = ((x - 14) ** 2 + (y - 30) ** 2 < 300).expand(3, 1, 48, 40)
    found = ssim(image, noisy, 1.0, inside)
    for i in range(3):
        _, full = structural_similarity(
            image[i].numpy().astype(np.float64),
            noisy[i].numpy().astype(np.float64),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        counted = np.broadcast_to(inside[i].numpy(), full.shape).copy()
        counted[:, :5] = counted[:, -5:] = counted[:, :, :5] = counted[:, :, -5:] = False
        assert found[i].item() == pytest.approx(full[counted].mean(), abs=1e-6)
    assert abs(found[1] - ssim(image, noisy, 1.0)[1]) > 1e-3


def test_each_image_has_a_range_of_its_own_where_one_is_given():
    a, b = pairs()
    spans = own_range(a)
    found = ssim(a, b, spans)
    for i in range(3):
        assert spans[i] == a[i].max() - a[i].min()
        assert found[i] == ssim(a[i : i + 1], b[i : i + 1], float(spans[i]))[0]


def test_mean_of_psnrs_is_not_psnr_of_the_mean():
    a, b = pairs()
    error = squared_error(a, b)
    found = psnr(error, 1.0)
    for i in range(3):
        expected = peak_signal_noise_ratio(a[i].numpy(), b[i].numpy(), data_range=1.0)
        assert found[i].item() == pytest.approx(expected, abs=1e-4)
    assert found.mean() > psnr(error.mean()[None], 1.0)[0] + 1
    assert psnr(torch.zeros(1), 1.0).item() == pytest.approx(100)


@pytest.mark.parametrize("shape", [(1, 1, 10, 20), (1, 20, 20)])
def test_images_smaller_than_the_window_are_refused(shape):
    with pytest.raises(ValueError, match="11 or more"):
        ssim_map(torch.zeros(shape), torch.zeros(shape), 1.0)
