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
from medvq.train.recorder import Recorder
from medvq.train.session import Session
from medvq.train.tasks.base import Batch


def train(session: Session, recorder: Recorder) -> bool:
    """Train from the session's position to the end; return False if all ranks agreed to stop before.

    A step is a pure function of the weights and (seed, step): it uses nothing that a checkpoint lacks.
    """
    settings, position, world = session.settings, session.position, session.world
    if session.info.fits:
        session.fit()
        if not session.finished:
            recorder.end_epoch(session.end_epoch(settings.epochs - 1))
    for epoch in range(position.epoch, settings.epochs):
        module = session.enter(epoch)
        for batch, draws in session.batches(epoch, position.batch):
            lr_at(settings, position.step, session.steps_per_epoch).apply(session.optimizer)
            session.seed_own(draws)
            losses = gradient(session, module, batch, draws, epoch)
            clip(session.task, settings)
            session.optimizer.step()
            session.optimizer.zero_grad(set_to_none=True)
            update_codebooks(session.task.model, draws)
            session.loss_sync.send(position.step, losses, session.stop_requested() or recorder.lost)
            position.step += 1
            position.batch += 1
            if session.loss_sync.stop_now(position.step - 1):
                recorder.stop()
                return False
            recorder.after_step()
        stops = recorder.end_epoch(session.end_epoch(epoch))
        if (stops or session.loss_sync.wants_stop()) and not session.finished:
            recorder.stop()
            return False
    # Rank 0 writes the last checkpoint. All ranks read it next, so they wait for it here.
    world.broadcast(None)
    return True


def gradient(session: Session, module: torch.nn.Module, batch: Batch, draws: Draws, epoch: int) -> dict[str, Any]:
    """Compute the gradient of the mean loss over the global batch; return the losses, means over the rank's share."""
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
                stack.enter_context(module.no_sync())  # ranks exchange the sum over all parts once
            with session.autocast(), dropping(part_draws):
                losses = module(part, part_draws, epoch)
            (losses["loss"] / parts).backward()
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.0) + value.detach() / parts
    return totals


def in_parts(batch: Batch, draws: Draws, parts: int) -> Iterator[tuple[Batch, Draws]]:
    """Yield a rank's share of a batch in equal parts, each with the draws that it has in the whole.

    The draws are those of `parts` times as many ranks, each of which has one part.
    """
    size = len(batch.x) // parts

    def cut(value: Any, i: int) -> Any:
        return value[i * size : (i + 1) * size] if isinstance(value, torch.Tensor | Sequence) else value

    for i in range(parts):
        fields = {f.name: cut(getattr(batch, f.name), i) for f in dataclasses.fields(batch)}
        yield Batch(**fields), Draws(draws.seed, draws.step, draws.rank * parts + i, draws.world * parts)


def start_codebooks(session: Session, batch: Batch, draws: Draws, epoch: int) -> None:
    """Initialise codebooks that start from data with the rank's whole share, as an undivided step does.

    Tensors for a backward pass are not kept, so this takes no more memory than an evaluation.
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
    """Update the codebooks' moving averages, once per optimizer step and together with all ranks."""
    if isinstance(model, VQModel):
        model.update_codebooks(draws)
