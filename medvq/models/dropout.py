"""Dropout whose masks are a pure function of (seed, step): drawn for the global batch, and sliced by rank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from medvq.models.draws import Draws


class _Step:
    """The step under way, and how often each layer was called in it."""

    def __init__(self, draws: Draws) -> None:
        self.draws, self.calls = draws, dict[str, int]()


_under_way: list[_Step] = []


@contextmanager
def dropping(draws: Draws) -> Iterator[None]:
    """Within, `KeyedDropout` draws from `draws`."""
    _under_way.append(_Step(draws))
    try:
        yield
    finally:
        _under_way.pop()


class KeyedDropout(_DropoutNd):
    """`nn.Dropout`, `nn.Dropout1d`, `2d` or `3d`; in a training step of ours its mask is keyed. Dimension 0 is B."""

    purpose: str
    """Its name in the network."""
    whole_channels: bool
    """Whether (B, C, …) keeps or drops whole channels."""
    stock: type[_DropoutNd]

    def forward(self, x: Tensor) -> Tensor:
        """Drop numbers of x (B, …) in training, and scale the others by 1 / (1 − p)."""
        if not self.training or not self.p or not _under_way:
            plain: Tensor = self.stock.forward(self, x)
            return plain
        step = _under_way[-1]
        call = step.calls[self.purpose] = step.calls.get(self.purpose, -1) + 1
        shape = (*x.shape[:2], *[1] * (x.ndim - 2)) if self.whole_channels else x.shape
        keep = step.draws.uniform(shape, f"dropout {self.purpose} {call}", x.device) >= self.p
        scaled = keep.to(x.dtype) / max(1 - self.p, 1e-12)
        return x.mul_(scaled) if self.inplace else x * scaled


def convert_keyed_dropout(model: nn.Module) -> None:
    """Key the dropout layers of a network. `nn.functional.dropout` inside it is not reached."""
    for name, module in model.named_modules():
        if type(module) in (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d):
            stock = type(module)
            module.__class__ = KeyedDropout
            assert isinstance(module, KeyedDropout)
            module.purpose, module.stock = name, stock
            module.whole_channels = stock is not nn.Dropout
