"""The VQ-VAE for brain slices: three strided convolutions, one codebook, three transposed convolutions.

The structure is that of van den Oord et al. 2017 with BatchNorm; jobs/PUBLISHED.md, brain-vqvae, describes the
published system.
"""

from __future__ import annotations

from torch import Tensor, nn

from medvq.errors import UsageError
from medvq.models.autoencoder import Encoded, VQModel
from medvq.models.draws import Draws
from medvq.models.norm import GlobalBatchNorm2d
from medvq.models.quantize.build import make_quantizer
from medvq.models.vqvae.settings import VQVAESettings

STRIDE = 8
"""Image side divided by code side."""
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "linear": nn.Identity}


class NormedResidual(nn.Module):
    """Residual block x + BN(Conv1×1(ReLU(BN(Conv3×3(ReLU(x)))))) for (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            GlobalBatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            GlobalBatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, (B, C, H, W), for x (B, C, H, W)."""
        out: Tensor = x + self.conv(x)
        return out


class VQVAE(VQModel):
    """Encodes images (B, C, H, W) as codes (B, D, H/8, W/8) and decodes them. It has no classifier head."""

    levels = 1

    def __init__(self, config: VQVAESettings, input_shape: tuple[int, int, int], classes: int = 0) -> None:
        """Create the model.

        Args:
            config: settings of the model.
            input_shape: (C, H, W) of the images. H and W must be multiples of 8.
            classes: not used.

        Raises:
            UsageError: H or W is not a multiple of 8.
        """
        super().__init__()
        channels, *sides = input_shape
        if any(side % STRIDE for side in sides):
            raise UsageError(
                f"image sides must be multiples of {STRIDE}, not {sides[0]}×{sides[1]}",
                hint="change the size of the view",
            )
        width, dim, blocks = config.channels, config.code_dim, config.residual_blocks
        self.code_shape = (dim, sides[0] // STRIDE, sides[1] // STRIDE)
        self.encoder = nn.Sequential(
            *_down(channels, width),
            nn.ReLU(),
            *_down(width, width),
            nn.ReLU(),
            *_down(width, dim),
            *(NormedResidual(dim) for _ in range(blocks)),
            *([nn.ReLU()] if config.relu_codes else []),
        )
        self.quantizer = make_quantizer(config, "level0")
        # A ReLU directly on the codes would discard their negative values. With `relu_codes` encoder outputs have none.
        self.decoder = nn.Sequential(
            *(NormedResidual(dim) for _ in range(blocks)),
            *([nn.ReLU()] if blocks or config.relu_codes else []),
            nn.ConvTranspose2d(dim, width, 4, 2, 1),
            GlobalBatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, 2, 1),
            GlobalBatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, 2, 1),
            ACTIVATIONS[config.output](),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def encode(self, x: Tensor, levels: int | None = None, draws: Draws | None = None) -> Encoded:
        """Encode images; see `Autoencoder.encode`."""
        found = self.quantizer(self.encoder(x), draws)
        return Encoded(
            codes=[found.z_q],
            losses={f"{name}/level0": loss for name, loss in found.losses.items()},
            penalties=[found.penalty],
            indices={"level0": found.indices},
        )

    def decode(self, code: Tensor, level: int = -1, to: int = 0) -> Tensor:
        """Decode codes (B, D, H/8, W/8) to images (B, C, H, W)."""
        image: Tensor = self.decoder(code)
        return image

    def decode_indices(self, indices: dict[str, Tensor]) -> Tensor:
        """Decode indices `level0` (B, H/8, W/8) int64 to images (B, C, H, W)."""
        return self.decode(self.quantizer.lookup(indices["level0"]))


def _down(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 4, 2, 1), GlobalBatchNorm2d(width)]
