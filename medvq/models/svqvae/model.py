"""The stacked VQ-VAE (SVQ-VAE) for white blood cells.

The input of each level is the joint code of the previous one; a head classifies the code of the deepest level.
jobs/PUBLISHED.md, svqvae-wbc, describes the published system.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from torch import Tensor, nn

from medvq.errors import UsageError
from medvq.models.autoencoder import Encoded, VQModel
from medvq.models.draws import Draws
from medvq.models.quantize.build import make_quantizer
from medvq.models.svqvae.blocks import TwoLevelVQVAE
from medvq.models.svqvae.settings import SVQVAESettings


class SVQVAE(VQModel):
    """Encodes images (B, C, H, W) with L stacked levels; the code of level i is (B, 2D, H/4^(i+1), W/4^(i+1)).

    Every level can be decoded to images. The head computes class logits from the deepest code.
    """

    def __init__(self, config: SVQVAESettings, input_shape: tuple[int, int, int], classes: int = 0) -> None:
        """Create the model.

        Args:
            config: settings of the model.
            input_shape: (C, H, W) of the images. H and W must be multiples of 2 · 4^L, and larger than 4^L.
            classes: number of classes of the head; 0 for no head.

        Raises:
            UsageError: H or W is not supported.
        """
        super().__init__()
        self.levels, self.classes = config.levels, classes
        channels, *sides = input_shape
        step = 4**config.levels
        if any(side <= step or side % (2 * step) for side in sides):
            raise UsageError(
                f"{config.levels} levels need image sides that are multiples of {2 * step}, not {sides[0]}×{sides[1]}",
                hint="change the size of the view, or lower model.levels",
            )

        def stage(level: int) -> TwoLevelVQVAE:
            return TwoLevelVQVAE(
                channels if level == 0 else 2 * config.code_dim,
                channels=config.channels,
                residual_blocks=config.residual_blocks,
                residual_channels=config.residual_channels,
                code_dim=config.code_dim,
                quantizer=lambda place: make_quantizer(config, f"level{level}/{place}"),
            )

        self.models = nn.ModuleList(stage(level) for level in range(config.levels))
        self.code_shape = (2 * config.code_dim, sides[0] // step, sides[1] // step)
        features = prod(self.code_shape)
        hidden = (2 * features, 64) if config.head is None else config.head
        self.classifier = _head(features, hidden, classes) if classes else None

    def encode(self, x: Tensor, levels: int | None = None, draws: Draws | None = None) -> Encoded:
        """Encode images; see `Autoencoder.encode`. Losses of a level are sums over its two codebooks."""
        codes: list[Tensor] = []
        losses: dict[str, Tensor] = {}
        penalties: list[Tensor] = []
        indices: dict[str, Tensor] = {}
        for i in range(self.levels if levels is None else levels):
            code = self._level(i).encode(codes[-1] if codes else x, draws)
            codes.append(code.joint)
            for place, found in (("top", code.top), ("bottom", code.bottom)):
                indices[f"level{i}/{place}"] = found.indices
                for name, loss in found.losses.items():
                    key = f"{name}/level{i}"
                    losses[key] = losses[key] + loss if key in losses else loss
            penalties.append(code.top.penalty + code.bottom.penalty)
        return Encoded(codes=codes, losses=losses, penalties=penalties, indices=indices)

    def decode(self, code: Tensor, level: int = -1, to: int = 0) -> Tensor:
        """Decode a joint code (B, 2D, h, w) of `level`; see `Autoencoder.decode`."""
        for i in range(level % self.levels, to - 1, -1):
            code = self._level(i).decode(code)
        return code

    def decode_indices(self, indices: dict[str, Tensor]) -> Tensor:
        """Return images (B, C, H, W) decoded from code indices.

        Args:
            indices: `level{i}/top` (B, h/2, w/2) and `level{i}/bottom` (B, h, w), int64, of one level i. If there are
                several levels, the deepest is used.
        """
        i = max(int(name.removeprefix("level").partition("/")[0]) for name in indices)
        level = self._level(i)
        top = level.quantize_t.lookup(indices[f"level{i}/top"])
        bottom = level.quantize_b.lookup(indices[f"level{i}/bottom"])
        return self.decode(level.join(top, bottom), i)

    @property
    def has_head(self) -> bool:
        """Whether the model has a classifier head."""
        return self.classifier is not None

    def head(self, code: Tensor) -> Tensor:
        """Return class logits (B, classes) for the deepest code (B, 2D, h, w).

        Raises:
            UsageError: the model has no head.
        """
        if self.classifier is None:
            raise UsageError("this model has no classifier head", hint="train it on data with classes")
        logits: Tensor = self.classifier(code)
        return logits

    def level_parameters(self, level: int) -> Iterator[nn.Parameter]:
        """Return the parameters of one level."""
        return self._level(level).parameters()

    def _level(self, i: int) -> TwoLevelVQVAE:
        level = self.models[i]
        assert isinstance(level, TwoLevelVQVAE)
        return level


def _head(features: int, hidden: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return an MLP with GELU that maps (B, …), flattened to `features` numbers, to logits (B, classes)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(features, width), nn.GELU()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, classes))
