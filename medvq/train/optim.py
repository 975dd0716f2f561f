"""Optimizers, their rates as functions of the step alone, and the clipping of gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from medvq.config.study import Train
from medvq.models.quantize.codebook import CodebookQuantizer

FUSED_ON = ("cpu", "cuda", "mps", "xpu")
"""Devices for which torch has the whole step in one kernel."""


def make_optimizer(model: torch.nn.Module, settings: Train, fused: bool = False) -> torch.optim.Optimizer:
    """The optimizer over all parameters; those without a gradient in a step are left alone, decay included.

    With `fused`, Adam and AdamW take their step in one kernel. torch's fused SGD is never used: with momentum it fails
    where one parameter has its first gradient later than another, as in training by stages.

    A codebook learnt by gradient is not decayed: its codes must stay where the encoder's outputs are.
    """
    o = settings.optimizer
    books = {id(m.codebook) for m in model.modules() if isinstance(m, CodebookQuantizer)}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in books], "weight_decay": o.weight_decay},
        {"params": [p for p in model.parameters() if id(p) in books], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if o.name == "sgd":
        return torch.optim.SGD(groups, lr=o.lr, momentum=o.momentum)
    kinds: dict[str, type[torch.optim.Adam]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    return kinds[o.name](groups, lr=o.lr, betas=o.betas, fused=fused or None)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What the optimizer is set to for one step."""

    lr: float
    """Learning rate."""
    momentum: float | None = None
    """beta1, or SGD's momentum, where the schedule moves it."""

    def apply(self, optimizer: torch.optim.Optimizer) -> None:
        """Set it."""
        for group in optimizer.param_groups:
            group["lr"] = self.lr
            if self.momentum is None:
                continue
            if "betas" in group:
                group["betas"] = (self.momentum, group["betas"][1])
            else:
                group["momentum"] = self.momentum


def lr_at(settings: Train, step: int, steps_per_epoch: int) -> Rate:
    """The rate of a step (from 0 over all epochs), a function of nothing else, so that a resumed run has it too.

    cosine: lr/2 · (1 + cos(π·epoch/t_max)), then zero; step: lr · gamma^⌊epoch/every⌋, epochs from 0.
    onecycle is torch's OneCycleLR with cosine annealing: from lr/div_factor up to lr over the first `pct_start`
    of all steps, then down to lr/div_factor/final_div_factor at the last one; momentum goes the other way.
    """
    schedule, lr, epoch = settings.schedule, settings.optimizer.lr, step // steps_per_epoch
    if schedule.name == "cosine":
        t_max = schedule.t_max or settings.epochs
        return Rate(lr=lr * 0.5 * (1 + math.cos(math.pi * epoch / t_max)) if epoch < t_max else 0.0)
    if schedule.name == "step":
        return Rate(lr=lr * schedule.gamma ** (epoch // schedule.every))
    if schedule.name == "onecycle":
        return _one_cycle(settings, step, settings.epochs * steps_per_epoch)
    return Rate(lr=lr)


def _one_cycle(settings: Train, step: int, total: int) -> Rate:
    schedule, top = settings.schedule, settings.optimizer.lr
    first = top / schedule.div_factor
    low, high = schedule.momentum or (None, None)
    peak = schedule.pct_start * total - 1
    if step <= peak:
        part, ends, momenta = (step / peak if peak else 1.0), (first, top), (high, low)
    else:
        part, ends, momenta = (step - peak) / (total - 1 - peak), (top, first / schedule.final_div_factor), (low, high)
    start, end = momenta
    moved = None if start is None or end is None else _anneal(start, end, part)
    return Rate(lr=_anneal(*ends, part), momentum=moved)


def _anneal(start: float, end: float, part: float) -> float:
    """From `start` to `end` along half a cosine, `part` in [0, 1]."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))


def clip(model: torch.nn.Module, settings: Train) -> None:
    """Clip the gradient, by its norm or value by value, as the study says."""
    if settings.clip_norm is not None:
        clip_grad_norm_(model.parameters(), settings.clip_norm)
    elif settings.clip_value is not None:
        clip_grad_value_(model.parameters(), settings.clip_value)
