"""Optimizers and their rates."""

from __future__ import annotations

import math

import torch

from medvq.config.study import Train


def make_optimizer(model: torch.nn.Module, settings: Train) -> torch.optim.Optimizer:
    """The optimizer over all parameters; those without a gradient in a step are left alone, decay included."""
    kinds: dict[str, type[torch.optim.Adam]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    o = settings.optimizer
    return kinds[o.name](model.parameters(), lr=o.lr, betas=o.betas, weight_decay=o.weight_decay)


def rate(settings: Train, epoch: int) -> float:
    """The learning rate of an epoch (from 0), a function of nothing else, so that a resumed run has it too."""
    if settings.schedule == "cosine":
        return settings.optimizer.lr * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    return settings.optimizer.lr
