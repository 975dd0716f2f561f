"""How many parameters a model has, and what its layers put out."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from medvq.models.autoencoder import Autoencoder
from medvq.models.quantize.base import Quantizer


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Parameters of a model."""

    total: int
    """All parameters."""
    trainable: int
    """Those that gradients change."""
    buffers: int
    """Numbers in float buffers, such as moving averages: state, but no parameters."""
    modules: dict[str, int]
    """Parameters of each child module, and of the children of lists of modules."""
    not_counted: dict[str, int] = field(default_factory=dict)
    """What a paper counts and we do not have, by name: total + not_counted = published."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer that ran."""

    name: str
    """Its dotted name."""
    kind: str
    """Its class."""
    shape: tuple[int, ...]
    """Its output, without the batch."""
    parameters: int
    """Its parameters."""


def count(model: nn.Module) -> Counts:
    """Count the parameters of `model`."""
    modules: dict[str, int] = {}
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            modules |= {f"{name}.{i}": _numel(part) for i, part in enumerate(child)}
        else:
            modules[name] = _numel(child)
    return Counts(
        total=_numel(model),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        buffers=sum(b.numel() for b in model.buffers() if b.is_floating_point()),
        modules=modules,
        not_counted=dict(getattr(model, "not_counted", {})),
    )


def head_parameters(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """How many parameters a head learns with that takes the code of images of `input_shape` (C, H, W) as it is."""
    twin: Any = copy.deepcopy(model).to("meta").eval()
    code = twin.encode(torch.empty(1, *input_shape, device="meta")).code.detach()
    parameters = list(twin.parameters())
    grads = torch.autograd.grad(twin.head(code).sum(), parameters, allow_unused=True)
    return sum(p.numel() for p, grad in zip(parameters, grads, strict=True) if grad is not None)


def layers(model: nn.Module, input_shape: tuple[int, int, int]) -> list[Layer]:
    """The layers of `model`, in the order they run for one image of `input_shape` (C, H, W); nothing is computed."""
    twin = copy.deepcopy(model).to("meta").eval()
    found: list[Layer] = []

    def seen(name: str, module: nn.Module, output: object) -> None:
        if not isinstance(output, Tensor):
            output = getattr(output, "z_q", None)
        if isinstance(output, Tensor) and not any(layer.name == name for layer in found):
            kind = type(module).__name__
            found.append(Layer(name=name, kind=kind, shape=tuple(output.shape[1:]), parameters=_numel(module)))

    whole: list[str] = []
    for name, module in twin.named_modules():
        if name.startswith(tuple(whole)):
            continue
        if isinstance(module, Quantizer):
            whole.append(f"{name}.")
        elif list(module.children()):
            continue
        module.register_forward_hook(lambda m, _, out, name=name: seen(name, m, out))
    with torch.no_grad():
        out = twin(torch.zeros(1, *input_shape, device="meta"))
        if isinstance(twin, Autoencoder) and twin.has_head:
            twin.head(out.code)
    return found


def _numel(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
