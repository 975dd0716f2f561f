"""Make training faster with no more than rounding differences: memory layout, compilation, fused steps, transfers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from medvq.config.study import Resources
from medvq.models.dropout import KeyedDropout
from medvq.models.norm import BatchNorm
from medvq.models.quantize.base import Quantizer
from medvq.shards.load.loader import RawBatch
from medvq.train.optim import FUSED_ON


def arrange(model: nn.Module, resources: Resources) -> nn.Module:
    """Return the model with the memory layout and compilation that `resources` asks for. Weights keep their names."""
    if resources.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if resources.compile:
        for part in compilable(model):
            part.compile()
    return model


def compilable(model: nn.Module) -> list[nn.Module]:
    """Return the largest parts of a model that contain no quantizer, batch norm or keyed dropout.

    Those layers are not compiled, because Inductor has miscompiled updates of moving averages on the CPU and cannot
    trace communication between ranks.
    """
    if not any(isinstance(m, Quantizer | BatchNorm | KeyedDropout) for m in model.modules()):
        return [model] if any(True for _ in model.parameters()) else []
    return [part for child in model.children() for part in compilable(child)]


def eager(resources: Resources) -> AbstractContextManager[Any]:
    """Return a context that runs without compiled parts, for batch sizes for which they would be compiled again."""
    return torch.compiler.set_stance("force_eager") if resources.compile else nullcontext()


def fused(resources: Resources, device: torch.device) -> bool:
    """Return whether the optimizer takes its step in one kernel."""
    return device.type in FUSED_ON if resources.fused == "auto" else resources.fused


def ahead(batches: Iterable[RawBatch], device: torch.device) -> Iterator[RawBatch]:
    """Yield the batches; for CUDA on the device, where the next batch is copied while the current one is used."""
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    waiting: RawBatch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            coming = _copied(batch, device)
        if waiting is not None:
            yield waiting
        torch.cuda.current_stream(device).wait_stream(stream)
        for value in vars(coming).values():
            if isinstance(value, torch.Tensor) and value.is_cuda:
                value.record_stream(torch.cuda.current_stream(device))
        waiting = coming
    if waiting is not None:
        yield waiting


def _copied(batch: RawBatch, device: torch.device) -> RawBatch:
    """Return the batch with pixels, masks and labels on the device; positions stay, since only keys need them."""
    moved: dict[str, Any] = {
        name: value.pin_memory().to(device, non_blocking=True)
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor) and name != "positions"
    }
    return dataclasses.replace(batch, **moved)
