"""Parameter counts and layer shapes of a model."""

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
    """Numbers of parameters of a model."""

    total: int
    """All parameters."""
    trainable: int
    """Parameters that require gradients."""
    buffers: int
    """Elements of floating-point buffers, such as moving averages. They are not parameters."""
    modules: dict[str, int]
    """Parameters of each child module; an `nn.ModuleList` is replaced by its items."""
    not_counted: dict[str, int] = field(default_factory=dict)
    """Parameters that the paper counts and this model does not have, by name. Their sum plus `total` is the published
    count."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a model."""

    name: str
    """Dotted name in the model."""
    kind: str
    """Name of its class."""
    shape: tuple[int, ...]
    """Shape of its output without the batch dimension."""
    parameters: int
    """Number of its parameters."""


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
    """Return the number of parameters that are trained if everything but the classifier head is frozen.

    They are the parameters that the logits depend on when the code is given.

    Args:
        model: an `Autoencoder` with a head.
        input_shape: (C, H, W) of the images.
    """
    twin: Any = copy.deepcopy(model).to("meta").eval()
    code = twin.encode(torch.empty(1, *input_shape, device="meta")).code.detach()
    parameters = list(twin.parameters())
    grads = torch.autograd.grad(twin.head(code).sum(), parameters, allow_unused=True)
    return sum(p.numel() for p, grad in zip(parameters, grads, strict=True) if grad is not None)


def layers(model: nn.Module, input_shape: tuple[int, int, int]) -> list[Layer]:
    """Return the layers of `model` in execution order. They run on the meta device, so nothing is computed.

    A quantizer counts as one layer. A layer that runs several times is listed once.

    Args:
        model: the model; it is not changed.
        input_shape: (C, H, W) of the images.
    """
    twin = copy.deepcopy(model).to("meta").eval()
    found: list[Layer] = []

    def record(name: str, module: nn.Module, output: object) -> None:
        if not isinstance(output, Tensor):
            output = getattr(output, "z_q", None)
        if isinstance(output, Tensor) and not any(layer.name == name for layer in found):
            kind = type(module).__name__
            found.append(Layer(name=name, kind=kind, shape=tuple(output.shape[1:]), parameters=_numel(module)))

    skipped: list[str] = []  # prefixes of modules inside quantizers
    for name, module in twin.named_modules():
        if name.startswith(tuple(skipped)):
            continue
        if isinstance(module, Quantizer):
            skipped.append(f"{name}.")
        elif list(module.children()):
            continue
        module.register_forward_hook(lambda m, _, out, name=name: record(name, m, out))
    with torch.no_grad():
        out = twin(torch.zeros(1, *input_shape, device="meta"))
        if isinstance(twin, Autoencoder) and twin.has_head:
            twin.head(out.code)
    return found


def _numel(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
