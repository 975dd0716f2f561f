"""The one training loop. Every task, launcher and number of workers goes through here."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from medvq.models.autoencoder import VQModel
from medvq.models.draws import Draws
from medvq.models.dropout import dropping
from medvq.models.quantize.base import Quantizer
from medvq.train.optim import clip, lr_at
from medvq.train.session import Session
from medvq.train.tasks.base import Batch


def train(session: Session) -> bool:
    """Train from the session's position to the end; False if all ranks agreed to stop before.

    A step is a pure function of the weights and (seed, step): nothing is carried over that a checkpoint lacks.
    """
    settings, position, world = session.settings, session.position, session.world
    steps_per_epoch = session.loaders["train"].steps_per_epoch
    if session.info.fits:
        session.fit()
    for epoch in range(position.epoch, settings.epochs):
        module = session.enter(epoch)
        for batch, draws in session.batches(epoch, position.batch):
            lr_at(settings, position.step, steps_per_epoch).apply(session.optimizer)
            session.seed_own(draws)
            losses = gradient(session, module, batch, draws, epoch)
            clip(session.task, settings)
            session.optimizer.step()
            session.optimizer.zero_grad(set_to_none=True)
            update_codebooks(session.task.model, draws)
            session.loss_sync.send(position.step, losses, session.stop_requested())
            position.step += 1
            position.batch += 1
            if session.loss_sync.stop_now(position.step - 1):
                session.stop()
                return False
            session.after_step()
        session.end_epoch(epoch)
        if session.loss_sync.wants_stop() and position.epoch < settings.epochs:
            session.stop()
            return False
    # The last checkpoint is rank 0's to write; what comes next reads it on every rank.
    world.broadcast(None)
    return True


def gradient(session: Session, module: torch.nn.Module, batch: Batch, draws: Draws, epoch: int) -> dict[str, Any]:
    """Fill in the gradient of the mean loss over the global batch; returns the losses, means over the rank's share."""
    parts = session.settings.accumulate
    if parts == 1:
        with session.autocast(), dropping(draws):
            losses: dict[str, Any] = module(batch, draws, epoch)
        losses["loss"].backward()
        return losses
    if session.new_stage:
        start_codebooks(session, batch, draws, epoch)
        session.new_stage = False
    totals: dict[str, Any] = {}
    for i, (part, part_draws) in enumerate(in_parts(batch, draws, parts)):
        with contextlib.ExitStack() as stack:
            if i < parts - 1 and isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())  # ranks exchange the sum over all parts, once
            with session.autocast(), dropping(part_draws):
                losses = module(part, part_draws, epoch)
            (losses["loss"] / parts).backward()
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.0) + value.detach() / parts
    return totals


def in_parts(batch: Batch, draws: Draws, parts: int) -> Iterator[tuple[Batch, Draws]]:
    """A rank's share in equal parts, one after the other, with the draws that each would have in the whole.

    To the draws a part is the share of one of `parts` times as many ranks.
    """
    size = len(batch.x) // parts

    def cut(value: Any, i: int) -> Any:
        return value[i * size : (i + 1) * size] if isinstance(value, torch.Tensor | Sequence) else value

    for i in range(parts):
        fields = {f.name: cut(getattr(batch, f.name), i) for f in dataclasses.fields(batch)}
        yield Batch(**fields), Draws(draws.seed, draws.step, draws.rank * parts + i, draws.world * parts)


def start_codebooks(session: Session, batch: Batch, draws: Draws, epoch: int) -> None:
    """Start codebooks that begin with data from the whole share, as an undivided step would.

    What a backward pass would need is dropped at once, so that this takes the memory of an evaluation.
    """
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda nothing: nothing),
        session.autocast(),
        dropping(draws),
    ):
        session.task(batch, draws, epoch)
    for module in session.task.modules():
        if isinstance(module, Quantizer):
            module.forget()


def update_codebooks(model: torch.nn.Module, draws: Draws) -> None:
    """One update of the moving averages per optimizer step, together with all ranks."""
    if isinstance(model, VQModel):
        model.update_codebooks(draws)
