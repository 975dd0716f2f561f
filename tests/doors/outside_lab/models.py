"""A classifier, and an autoencoder without codebooks."""

from torch import Tensor, nn

from medvq.config.settings import ModelSettings
from medvq.models.autoencoder import Autoencoder, Encoded


class Net(nn.Module):
    """Images (B, C, H, W) to logits (B, classes)."""

    class Settings(ModelSettings):
        """Settings of Net."""

        width: int = 4
        """Channels."""

    def __init__(self, settings: Settings, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(input_shape[0], settings.width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.norm = nn.BatchNorm1d(settings.width)
        self.last = nn.Linear(settings.width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images x (B, C, H, W)."""
        return self.last(self.norm(self.features(x)))


class Bottleneck(Autoencoder):
    """Images (B, C, H, W) to a vector (B, length) and back."""

    class Settings(ModelSettings):
        """Settings of Bottleneck."""

        length: int = 8
        """Numbers in the code."""
        sparsity: float = 0.01
        """Weight of the mean absolute value of the code."""

        @property
        def pixel_range(self) -> str:
            """The decoder ends in a sigmoid."""
            return "unit"

    def __init__(self, settings: Settings, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        size = channels * height * width
        self.sparsity = settings.sparsity
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, settings.length))
        self.decoder = nn.Sequential(nn.Linear(settings.length, size), nn.Sigmoid(), nn.Unflatten(1, input_shape))

    def encode(self, x: Tensor, levels: int | None = None, draws: object = None) -> Encoded:
        """Encode images x (B, C, H, W) as vectors (B, length)."""
        code = self.encoder(x)
        size = code.abs().mean()
        return Encoded(codes=[code], losses={"sparsity": size}, penalties=[self.sparsity * size])

    def decode(self, code: Tensor, level: int = -1, to: int = 0) -> Tensor:
        """Decode vectors (B, length) to images (B, C, H, W)."""
        return self.decoder(code)
