"""What every quantizer takes and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvq.config.settings import QuantizerSettings
from medvq.models.draws import Draws
from medvq.models.quantize.settings import CodebookSettings

CACHED_VALUES = 1 << 20
"""Numbers that are passed over in one go, where there are several passes."""
TRANSPOSED_BY_BLOCKS = 60
"""Sides from which a matrix is worth transposing by blocks."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Codes in place of encoder outputs."""

    z_q: Tensor
    """(B, D, H, W), of the input's dtype: the chosen codes; their gradient passes straight to the input."""
    indices: Tensor
    """(B, H, W) int64 in [0, K)."""
    losses: dict[str, Tensor]
    """Unweighted means over elements, by name: `commitment` ‖z − sg e‖², `codebook` ‖sg z − e‖²."""
    penalty: Tensor
    """What to add to the reconstruction loss: the weighted sum of `losses`."""


class Quantizer(nn.Module, ABC):
    """Maps (B, D, H, W) to the nearest of K codes at each position.

    Everything in here runs in float32, whatever autocast and the model's dtype are. A forward pass changes no
    persistent state, except that a codebook may be started from the first training batch; `update` learns from the
    training passes since the last one, and is called once per optimizer step on every rank.
    """

    Settings: ClassVar[type[QuantizerSettings]] = QuantizerSettings
    """What a study may say about the quantizer; a user's own derives from `QuantizerSettings` and adds fields."""
    codebook_size: int
    """K, the number of codes."""
    code_dim: int
    """D, the channels of the input and of a code."""

    def __init__(self, codebook_size: int, code_dim: int, *, name: str = "codebook") -> None:
        super().__init__()
        if codebook_size < 1 or code_dim < 1:
            raise ValueError(f"codebook_size and code_dim must be positive, not {codebook_size} and {code_dim}")
        self.codebook_size, self.code_dim, self.name = codebook_size, code_dim, name
        self.frozen = False
        """While set, training passes are not learnt from."""
        self.eager = False
        """As published: learn in every training pass, also one without gradients, instead of once a step."""
        self.inner = False
        """Is it a part of another quantizer?"""

    @classmethod
    def from_settings(cls, settings: Any, codebooks: CodebookSettings, name: str) -> Quantizer:
        """Make the quantizer that a study describes.

        Args:
            settings: the keys under `model.quantizer`, as this class's `Settings`.
            codebooks: the settings that all codebooks of the model share: size, dimension, losses, revival.
            name: the codebook's name, such as `level0/top`; it keys the random draws.
        """
        return cls(codebooks.codebook_size, codebooks.code_dim, name=name)

    def forward(self, z: Tensor, draws: Draws | None = None) -> Quantized:
        """Quantize z (B, D, H, W); `draws` are needed where the codebook starts from data.

        Raises:
            ValueError: z has another shape.
        """
        if z.ndim != 4 or z.shape[1] != self.code_dim:
            raise ValueError(f"{self.name}: expected (B, {self.code_dim}, H, W), got {tuple(z.shape)}")
        with _without_autocast(z.device.type):
            found = self.quantize(z.float(), draws)
        keep = torch.channels_last if _is_channels_last(z) else torch.contiguous_format
        return Quantized(
            z_q=found.z_q.to(z.dtype).contiguous(memory_format=keep),
            indices=found.indices,
            losses=found.losses,
            penalty=found.penalty,
        )

    @abstractmethod
    def quantize(self, z: Tensor, draws: Draws | None) -> Quantized:
        """Quantize float32 z (B, D, H, W), outside autocast."""

    @abstractmethod
    def lookup(self, indices: Tensor) -> Tensor:
        """The codes (B, D, H, W) float32 of indices (B, H, W): `lookup(q(z).indices)` equals `q(z).z_q` exactly."""

    def update(self, draws: Draws) -> None:
        """Learn from the training passes since the last call, together with all ranks."""

    def forget(self) -> None:
        """Drop what training passes since the last update have left to learn from."""

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or let) the codebook learn; projections into and out of it are not part of it."""
        self.frozen = frozen

    @abstractmethod
    def table(self) -> Tensor:
        """All codes, (K, d), as they are compared with encoder outputs."""

    def as_published(self, names: Collection[str]) -> None:
        """Switch on mistakes of papers by name, before any training."""

    def _learning(self) -> bool:
        """Is this a pass to learn from? Not in eval, under no_grad, or when checkpointing recomputes a forward pass."""
        recomputing = torch._C._current_graph_task_id() != -1
        learns = self.eager or torch.is_grad_enabled()
        return self.training and learns and not recomputing and not self.frozen

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves go through, but `.half()`, `.bfloat16()` and the like leave the state float32."""
        tables: list[dict[str, Any]] = [m_dict for m in self.modules() for m_dict in (m._parameters, m._buffers)]
        before = [{name: t for name, t in table.items() if t is not None} for table in tables]
        values = [{name: t.data for name, t in table.items()} for table in before]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for table, old in zip(tables, values, strict=True):
            for name, value in old.items():
                if value.dtype == torch.float32 and table[name].dtype != torch.float32:
                    table[name].data = value.to(table[name].device)
        return self


class _StraightThrough(torch.autograd.Function):
    """Both gradients of `straight_through` in one buffer, where autograd would hold four of its size."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z, codes)
        ctx.set_materialize_grads(False)
        return codes.view_as(codes), _mean_square_difference(z, codes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        through, of_loss = grads
        if of_loss is None:
            return through, None
        z, codes = ctx.saved_tensors
        scale = of_loss * (2 / z.numel())
        grad = torch.empty_like(z)
        for images in _in_cache(z):
            torch.sub(z[images], codes[images], out=grad[images])
            if through is None:
                grad[images].mul_(scale)
            else:
                torch.addcmul(through[images], grad[images], scale, out=grad[images])
        return grad, None


def straight_through(z: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """z + sg(codes − z), with the forward value exactly `codes`, and the commitment loss mean (z − sg codes)².

    Both are (B, D, H, W); the result is laid out in memory as z is. No gradient reaches `codes`.
    """
    codes = codes.detach() if codes.stride() == z.stride() else torch.empty_like(z).copy_(codes.detach())
    if not (torch.is_grad_enabled() and z.requires_grad):
        return codes, _mean_square_difference(z.detach(), codes)
    out, commitment = _StraightThrough.apply(z, codes)  # type: ignore[no-untyped-call]
    return out, commitment


@torch.no_grad()
def gather(table: Tensor, indices: Tensor, like: Tensor) -> Tensor:
    """The codes (B, D, H, W) of indices (B·H·W,) from a table (K, D), laid out in memory as `like` is where it pays."""
    if like.device.type != "cpu" or not like.is_contiguous():
        return to_grid(F.embedding(indices, table), like.shape)
    # Channel by channel, each from a row of the table that stays in cache: a third of a lookup and a transposition.
    columns, out = table.t().contiguous(), torch.empty_like(like)
    for image, chosen in zip(out.flatten(2), indices.view(len(out), -1), strict=True):
        torch.index_select(columns, 1, chosen, out=image)
    return out


def _mean_square_difference(x: Tensor, y: Tensor) -> Tensor:
    """Mean of (x − y)² of two (B, D, H, W), without another tensor of their size."""
    norms = [torch.linalg.vector_norm(x[images] - y[images], dim=(2, 3)) for images in _in_cache(x)]
    squares: Tensor = torch.cat(norms).square()  # (B, D)
    return squares.sum() / x.numel()


def _in_cache(x: Tensor) -> list[slice]:
    """Slices of the batch (B, …): on a CPU as many images at once as stay in its cache between two passes."""
    images = max(1, CACHED_VALUES // max(1, x[:1].numel())) if x.device.type == "cpu" else len(x)
    return [slice(start, start + images) for start in range(0, len(x), max(1, images))]


def to_rows(z: Tensor) -> Tensor:
    """(B, D, H, W) as vectors (B·H·W, D)."""
    sides = z.shape[2] * z.shape[3]
    if z.device.type != "cpu" or not z.is_contiguous() or min(z.shape[1], sides) < TRANSPOSED_BY_BLOCKS:
        return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    # One image at a time is a transposition of a matrix, which torch does by blocks: half the time.
    rows = z.new_empty(len(z), sides, z.shape[1])
    for row, image in zip(rows, z.flatten(2), strict=True):
        row.copy_(image.t())
    return rows.view(-1, z.shape[1])  # (B·H·W, D)


def vectors_at(z: Tensor, positions: Tensor) -> Tensor:
    """(m, D): the vectors at positions (m,) of z (B, D, H, W), numbered as the rows of `to_rows`."""
    sides = z.shape[2] * z.shape[3]
    return z.flatten(2)[positions // sides, :, positions % sides]


def to_grid(rows: Tensor, shape: torch.Size) -> Tensor:
    """Vectors (B·H·W, D) as (B, D, H, W); `shape` is any shape with that batch and those sides."""
    return rows.view(shape[0], shape[-2], shape[-1], -1).permute(0, 3, 1, 2)


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    if device_type == "meta":
        return nullcontext()
    return torch.autocast(device_type=device_type, enabled=False)


def _is_channels_last(z: Tensor) -> bool:
    return not z.is_contiguous() and z.is_contiguous(memory_format=torch.channels_last)
