"""Interface of quantizers, and tensor functions that they share."""

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

CACHE_ELEMENTS = 1 << 20
"""Elements of a chunk on CPU, where an operation reads its input several times: about what a core's cache holds."""
BLOCKED_TRANSPOSE_MIN = 60
"""Smallest side of a matrix for which torch's blocked transposition is faster than a strided copy."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Result of quantizing encoder outputs z (B, D, H, W)."""

    z_q: Tensor
    """(B, D, H, W) with the dtype of z: the chosen codes. Gradients pass to z unchanged (straight-through)."""
    indices: Tensor
    """(B, H, W) int64 in [0, K): the chosen code of each position."""
    losses: dict[str, Tensor]
    """Unweighted losses (), means over elements: `commitment` is (z − sg e)², `codebook` is (sg z − e)²."""
    penalty: Tensor
    """Scalar () to add to the reconstruction loss: the weighted sum of `losses`."""


class Quantizer(nn.Module, ABC):
    """Replaces the vector at each position of (B, D, H, W) by one of K codes.

    Quantizers compute in float32, whatever the autocast mode and the dtype of the model are. A forward pass changes no
    persistent state, with one exception: the first training pass may initialise the codebook from data. `update`
    updates the codebook from the training passes since its last call. Call it once per optimizer step on every rank.
    """

    Settings: ClassVar[type[QuantizerSettings]] = QuantizerSettings
    """Settings of the quantizer in a study. A quantizer outside medvq derives its own from `QuantizerSettings`."""
    codebook_size: int
    """K, the number of codes."""
    code_dim: int
    """D, the number of channels of the input and the length of a code."""

    def __init__(self, codebook_size: int, code_dim: int, *, name: str = "codebook") -> None:
        """Create a quantizer of K = `codebook_size` codes of length D = `code_dim`.

        Raises:
            ValueError: one of them is not positive.
        """
        super().__init__()
        if codebook_size < 1 or code_dim < 1:
            raise ValueError(f"codebook_size and code_dim must be positive, not {codebook_size} and {code_dim}")
        self.codebook_size, self.code_dim, self.name = codebook_size, code_dim, name
        self.frozen = False
        """Whether training passes leave the codebook unchanged."""
        self.eager = False
        """Whether every training pass updates the codebook, even without gradients, as some published code does."""
        self.inner = False
        """Whether this quantizer is part of another one."""

    @classmethod
    def from_settings(cls, settings: Any, codebooks: CodebookSettings, name: str) -> Quantizer:
        """Create the quantizer from the settings of a study.

        Args:
            settings: the keys under `model.quantizer`, an instance of `Settings`.
            codebooks: settings shared by all codebooks of the model, such as size and dimension.
            name: name of the codebook, such as `level0/top`; it keys the random draws.
        """
        return cls(codebooks.codebook_size, codebooks.code_dim, name=name)

    def forward(self, z: Tensor, draws: Draws | None = None) -> Quantized:
        """Quantize encoder outputs.

        Args:
            z: (B, D, H, W), of any floating-point dtype.
            draws: random numbers of this training step; required if the codebook is initialised from data.

        Raises:
            ValueError: z has another shape, or `draws` are required and missing.
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
        """Quantize z (B, D, H, W) float32. `forward` calls it with autocast off."""

    @abstractmethod
    def lookup(self, indices: Tensor) -> Tensor:
        """Return the codes (B, D, H, W) float32 of indices (B, H, W); `lookup(q(z).indices)` equals `q(z).z_q`."""

    def update(self, draws: Draws) -> None:
        """Update the codebook from the training passes of all ranks since the last call."""

    def forget(self) -> None:
        """Discard the statistics of training passes since the last update."""

    def freeze(self, frozen: bool = True) -> None:
        """Freeze the codebook, or unfreeze it. Projections to and from the space of the codes are not affected."""
        self.frozen = frozen

    @abstractmethod
    def table(self) -> Tensor:
        """Return all codes, (K, d), in the space where they are compared with encoder outputs."""

    def as_published(self, names: Collection[str]) -> None:
        """Switch on known mistakes of published implementations, by name. Call it before training."""

    def _learning(self) -> bool:
        """Return whether this forward pass contributes to the next update.

        It does not in evaluation mode, without gradients (unless `eager`), if the codebook is frozen, and when
        activation checkpointing repeats a forward pass during backward.
        """
        recomputing = torch._C._current_graph_task_id() != -1
        learns = self.eager or torch.is_grad_enabled()
        return self.training and learns and not recomputing and not self.frozen

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the state between devices, but keep it float32 under `.half()`, `.bfloat16()` and the like."""
        tables: list[dict[str, Any]] = [table for m in self.modules() for table in (m._parameters, m._buffers)]
        before = [{name: t for name, t in table.items() if t is not None} for table in tables]
        values = [{name: t.data for name, t in table.items()} for table in before]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for table, old in zip(tables, values, strict=True):
            for name, value in old.items():
                if value.dtype == torch.float32 and table[name].dtype != torch.float32:
                    table[name].data = value.to(table[name].device)
        return self


class _StraightThrough(torch.autograd.Function):
    """Autograd function of `straight_through`. Backward needs one buffer of the size of z; autograd would need four."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z, codes)
        ctx.set_materialize_grads(False)
        return codes.view_as(codes), _mean_square_difference(z, codes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        grad_codes, grad_loss = grads
        if grad_loss is None:
            return grad_codes, None
        z, codes = ctx.saved_tensors
        scale = grad_loss * (2 / z.numel())
        grad = torch.empty_like(z)
        for images in _cache_chunks(z):
            torch.sub(z[images], codes[images], out=grad[images])
            if grad_codes is None:
                grad[images].mul_(scale)
            else:
                torch.addcmul(grad_codes[images], grad[images], scale, out=grad[images])
        return grad, None


def straight_through(z: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Apply the straight-through estimator (Bengio et al. 2013) and compute the commitment loss.

    Args:
        z: encoder outputs (B, D, H, W).
        codes: their codes (B, D, H, W). No gradient reaches them.

    Returns:
        z + sg(codes − z), equal to `codes` without rounding and with the memory layout of z; and the commitment loss
        (), the mean of (z − sg codes)².
    """
    codes = codes.detach() if codes.stride() == z.stride() else torch.empty_like(z).copy_(codes.detach())
    if not (torch.is_grad_enabled() and z.requires_grad):
        return codes, _mean_square_difference(z.detach(), codes)
    out, commitment = _StraightThrough.apply(z, codes)  # type: ignore[no-untyped-call]
    return out, commitment


@torch.no_grad()
def gather(table: Tensor, indices: Tensor, like: Tensor) -> Tensor:
    """Look up codes by index.

    Args:
        table: all codes (K, D).
        indices: (B·H·W,) int64.
        like: a tensor (B, D, H, W) that gives the shape; on CPU also the memory layout.

    Returns:
        The codes (B, D, H, W).
    """
    if like.device.type != "cpu" or not like.is_contiguous():
        return to_grid(F.embedding(indices, table), like.shape)
    # One channel at a time, from a row of the table that stays in cache: takes a third of embedding and transposition.
    channels, out = table.t().contiguous(), torch.empty_like(like)
    for image, chosen in zip(out.flatten(2), indices.view(len(out), -1), strict=True):
        torch.index_select(channels, 1, chosen, out=image)
    return out


def _mean_square_difference(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean of (x − y)² of x and y (B, D, H, W), without a temporary tensor of their size."""
    norms = [torch.linalg.vector_norm(x[images] - y[images], dim=(2, 3)) for images in _cache_chunks(x)]
    squares: Tensor = torch.cat(norms).square()  # (B, D)
    return squares.sum() / x.numel()


def _cache_chunks(x: Tensor) -> list[slice]:
    """Return slices of the batch dimension of x (B, …); on CPU each slice fits in the cache."""
    images = max(1, CACHE_ELEMENTS // max(1, x[:1].numel())) if x.device.type == "cpu" else len(x)
    return [slice(start, start + images) for start in range(0, len(x), max(1, images))]


def to_rows(z: Tensor) -> Tensor:
    """Return z (B, D, H, W) as vectors (B·H·W, D)."""
    sides = z.shape[2] * z.shape[3]
    if z.device.type != "cpu" or not z.is_contiguous() or min(z.shape[1], sides) < BLOCKED_TRANSPOSE_MIN:
        return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    # Per image this is the transposition of a matrix, which torch does in blocks, in half the time.
    rows = z.new_empty(len(z), sides, z.shape[1])
    for row, image in zip(rows, z.flatten(2), strict=True):
        row.copy_(image.t())
    return rows.view(-1, z.shape[1])  # (B·H·W, D)


def vectors_at(z: Tensor, positions: Tensor) -> Tensor:
    """Return the vectors (m, D) of z (B, D, H, W) at positions (m,), which count the rows of `to_rows(z)`."""
    sides = z.shape[2] * z.shape[3]
    return z.flatten(2)[positions // sides, :, positions % sides]


def to_grid(rows: Tensor, shape: torch.Size) -> Tensor:
    """Return vectors (B·H·W, D) as (B, D, H, W). `shape` is a shape (B, …, H, W)."""
    return rows.view(shape[0], shape[-2], shape[-1], -1).permute(0, 3, 1, 2)


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    if device_type == "meta":
        return nullcontext()
    return torch.autocast(device_type=device_type, enabled=False)


def _is_channels_last(z: Tensor) -> bool:
    return not z.is_contiguous() and z.is_contiguous(memory_format=torch.channels_last)
