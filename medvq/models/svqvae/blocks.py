"""The two-level block of VQ-VAE-2 (Razavi et al. 2019, as in the port rosinality/vq-vae-2-pytorch), and its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medvq.models.draws import Draws
from medvq.models.quantize.base import Quantized, Quantizer

MakeQuantizer = Callable[[str], Quantizer]
"""Makes the quantizer of that name."""


class Residual(nn.Module):
    """x + Conv1×1(ReLU(Conv3×3(ReLU(x)))), (B, C, H, W) in and out."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out."""
        return torch.add(x, self.conv(x))


def residuals(channels: int, hidden: int, count: int) -> list[nn.Module]:
    """`count` residual blocks and the ReLU that ends them."""
    return [*(Residual(channels, hidden) for _ in range(count)), nn.ReLU()]


class TwoLevelCode(NamedTuple):
    """The code of one two-level block."""

    joint: Tensor
    """(B, 2D, H/4, W/4): the upsampled top code, then the bottom code."""
    top: Quantized
    """The grid of (H/8, W/8)."""
    bottom: Quantized
    """The grid of (H/4, W/4)."""


class TwoLevelVQVAE(nn.Module):
    """One level of the stack: (B, C, H, W) to a joint code (B, 2D, H/4, W/4) and back. H and W are multiples of 8."""

    def __init__(
        self,
        in_channels: int,
        *,
        channels: int = 128,
        residual_blocks: int = 2,
        residual_channels: int = 32,
        code_dim: int = 64,
        quantizer: MakeQuantizer,
    ) -> None:
        super().__init__()
        half = channels // 2

        def blocks() -> list[nn.Module]:
            return residuals(channels, residual_channels, residual_blocks)

        self.enc_b = nn.Sequential(
            nn.Conv2d(in_channels, half, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(half, channels, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            *blocks(),
        )
        self.enc_t = nn.Sequential(
            nn.Conv2d(channels, half, 4, 2, 1), nn.ReLU(), nn.Conv2d(half, channels, 3, padding=1), *blocks()
        )
        self.quantize_conv_t = nn.Conv2d(channels, code_dim, 1)
        self.quantize_t = quantizer("top")
        self.dec_t = nn.Sequential(
            nn.Conv2d(code_dim, channels, 3, padding=1), *blocks(), nn.ConvTranspose2d(channels, code_dim, 4, 2, 1)
        )
        self.quantize_conv_b = nn.Conv2d(code_dim + channels, code_dim, 1)
        self.quantize_b = quantizer("bottom")
        self.upsample_t = nn.ConvTranspose2d(code_dim, code_dim, 4, 2, 1)
        self.dec = nn.Sequential(
            nn.Conv2d(2 * code_dim, channels, 3, padding=1),
            *blocks(),
            nn.ConvTranspose2d(channels, half, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(half, in_channels, 4, 2, 1),
        )

    def encode(self, x: Tensor, draws: Draws | None = None) -> TwoLevelCode:
        """The code of x (B, C, H, W)."""
        bottom = self.enc_b(x)  # (B, channels, H/4, W/4)
        top = self.quantize_t(self.quantize_conv_t(self.enc_t(bottom)), draws)  # (B, D, H/8, W/8)
        bottom = torch.cat([self.dec_t(top.z_q), bottom], dim=1)
        bottom = self.quantize_b(self.quantize_conv_b(bottom), draws)  # (B, D, H/4, W/4)
        return TwoLevelCode(self.join(top.z_q, bottom.z_q), top, bottom)

    def join(self, top: Tensor, bottom: Tensor) -> Tensor:
        """The joint code (B, 2D, H/4, W/4) of quantized top (B, D, H/8, W/8) and bottom (B, D, H/4, W/4)."""
        return torch.cat([self.upsample_t(top), bottom], dim=1)

    def decode(self, joint: Tensor) -> Tensor:
        """The input (B, C, H, W) back from a joint code (B, 2D, H/4, W/4)."""
        decoded: Tensor = self.dec(joint)
        return decoded

    def forward(self, x: Tensor, draws: Draws | None = None) -> tuple[Tensor, TwoLevelCode]:
        """The reconstruction of x (B, C, H, W), and its code."""
        code = self.encode(x, draws)
        return self.decode(code.joint), code
