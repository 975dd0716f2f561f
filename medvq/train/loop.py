"""The one training loop. Every task, launcher and number of workers goes through here."""

from __future__ import annotations

import torch
from torch.nn.utils import clip_grad_norm_

from medvq.models.base import VQModel
from medvq.models.draws import Draws
from medvq.train.session import Session


def train(session: Session) -> bool:
    """Train from the session's position to the end; False if all ranks agreed to stop before.

    A step is a pure function of the weights and (seed, step): nothing is carried over that a checkpoint lacks.
    """
    settings, position, world = session.settings, session.position, session.world
    if session.info.fits:
        session.fit()
    for epoch in range(position.epoch, settings.epochs):
        module = session.enter(epoch)
        for batch, draws in session.batches(epoch, position.batch):
            with session.autocast():
                losses = module(batch, draws, epoch)
            losses["loss"].backward()
            if settings.clip_norm is not None:
                clip_grad_norm_(session.task.parameters(), settings.clip_norm)
            session.optimizer.step()
            session.optimizer.zero_grad(set_to_none=True)
            update_codebooks(session.task.model, draws)
            session.pulse.send(position.step, losses, session.asked())
            position.step += 1
            position.batch += 1
            if session.pulse.stop_now(position.step - 1):
                session.stop()
                return False
            session.tick()
        session.end_epoch(epoch)
        if session.pulse.wants_stop() and position.epoch < settings.epochs:
            session.stop()
            return False
    # The last checkpoint is rank 0's to write; what comes next reads it on every rank.
    world.from_chief(None)
    return True


def update_codebooks(model: torch.nn.Module, draws: Draws) -> None:
    """One update of the moving averages per optimizer step, together with all ranks."""
    if isinstance(model, VQModel):
        model.update_codebooks(draws)
