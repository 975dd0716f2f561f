"""Dropout with masks that are a pure function of (seed, step): drawn for the global batch, sliced by rank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from medvq.models.draws import Draws


class _Step:
    """Draws of the current training step, and the number of calls of each layer in it."""

    def __init__(self, draws: Draws) -> None:
        self.draws, self.calls = draws, dict[str, int]()


_steps: list[_Step] = []


@contextmanager
def dropping(draws: Draws) -> Iterator[None]:
    """Let `KeyedDropout` layers take their masks from `draws` inside the `with` block."""
    _steps.append(_Step(draws))
    try:
        yield
    finally:
        _steps.pop()


class KeyedDropout(nn.Dropout):
    """`nn.Dropout`, or `nn.Dropout1d`, `2d` or `3d`, with keyed masks.

    Inside `dropping(draws)` the mask of a training pass comes from `draws`. Elsewhere the layer behaves like torch's.
    Dimension 0 of the input must be the batch.
    """

    purpose: str
    """Name of the layer in the model; it keys the draws."""
    whole_channels: bool
    """Whether whole channels of (B, C, …) are dropped, as `nn.Dropout1d`, `2d` and `3d` do."""
    stock: type[Any]
    """The class of torch that the layer had."""

    def forward(self, x: Tensor) -> Tensor:
        """Set elements of x (B, …) to 0 with probability p in training, and scale the others by 1 / (1 − p)."""
        if not self.training or not self.p or not _steps:
            plain: Tensor = self.stock.forward(self, x)
            return plain
        step = _steps[-1]
        call = step.calls[self.purpose] = step.calls.get(self.purpose, -1) + 1
        shape = (*x.shape[:2], *[1] * (x.ndim - 2)) if self.whole_channels else x.shape
        keep = step.draws.uniform(shape, f"dropout {self.purpose} {call}", x.device) >= self.p
        scaled = keep.to(x.dtype) / max(1 - self.p, 1e-12)
        return x.mul_(scaled) if self.inplace else x * scaled


def convert_keyed_dropout(model: nn.Module) -> None:
    """Turn the dropout layers of `model` into `KeyedDropout`, in place. `nn.functional.dropout` is not affected."""
    for name, module in model.named_modules():
        if type(module) in (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d):
            stock = type(module)
            module.__class__ = KeyedDropout
            assert isinstance(module, KeyedDropout)
            module.purpose, module.stock = name, stock
            module.whole_channels = stock is not nn.Dropout
