"""Prepare DDP for a stage of training with one small batch: find the parameters in use and settle the buckets."""

from __future__ import annotations

from torch.nn.parallel import DistributedDataParallel

from medvq.models.draws import Draws
from medvq.train.tasks.base import Batch, Task


def used_parameters(task: Task, batch: Batch, epoch: int) -> set[str]:
    """Return the names of the model's parameters that the loss of this epoch (from 0) depends on.

    One small batch passes through the model in evaluation mode, so that only gradients change. They are then cleared.
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


def settle_buckets(module: DistributedDataParallel, task: Task, batch: Batch, epoch: int) -> None:
    """Make DDP rebuild its buckets before the first training step.

    After its first backward pass DDP packs gradients again, in the order in which they became ready. With three ranks
    or more, the place of a number in a bucket decides in which order ranks are summed. Without this function, a
    resumed run would differ by rounding in its first step from a run that was never stopped.
    """
    was_training = task.training
    task.eval()
    for _ in range(2):  # the second pass rebuilds the buckets
        module(batch, Draws(0, 0), epoch)["loss"].backward()
        task.zero_grad(set_to_none=True)
    task.train(was_training)
