"""Which parameters a stage of training uses, found by asking the gradient."""

from __future__ import annotations

from medvq.models.draws import Draws
from medvq.train.tasks.base import Batch, Task


def used_parameters(task: Task, batch: Batch, epoch: int) -> set[str]:
    """Names of the model's parameters that reach the loss in this epoch (from 0).

    One small batch goes through in evaluation mode, so that nothing but gradients changes; they are dropped again.
    """
    was_training = task.training
    task.eval()
    for parameter in task.model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    task(batch, Draws(0, 0), epoch)["loss"].backward()
    used = {name for name, parameter in task.model.named_parameters() if parameter.grad is not None}
    for parameter in task.model.parameters():
        parameter.grad = None
    task.train(was_training)
    return used
