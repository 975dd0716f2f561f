"""Optimizers and their rates."""

from __future__ import annotations

import math

import torch

from medvq.config.study import Train
from medvq.models.quantize.codebook import CodebookQuantizer


def make_optimizer(model: torch.nn.Module, settings: Train) -> torch.optim.Optimizer:
    """The optimizer over all parameters; those without a gradient in a step are left alone, decay included.

    A codebook learnt by gradient is not decayed: its codes must stay where the encoder's outputs are.
    """
    kinds: dict[str, type[torch.optim.Adam]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    o = settings.optimizer
    books = {id(m.codebook) for m in model.modules() if isinstance(m, CodebookQuantizer)}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in books], "weight_decay": o.weight_decay},
        {"params": [p for p in model.parameters() if id(p) in books], "weight_decay": 0.0},
    ]
    return kinds[o.name]([g for g in groups if g["params"]], lr=o.lr, betas=o.betas)


def rate(settings: Train, epoch: int) -> float:
    """The learning rate of an epoch (from 0), a function of nothing else, so that a resumed run has it too."""
    if settings.schedule == "cosine":
        return settings.optimizer.lr * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    return settings.optimizer.lr
