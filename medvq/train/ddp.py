"""What a first small batch tells about a stage of training: the parameters in use, the order of their gradients."""

from __future__ import annotations

from torch.nn.parallel import DistributedDataParallel

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


def settle_buckets(module: DistributedDataParallel, task: Task, batch: Batch, epoch: int) -> None:
    """Let DDP arrange its buckets before the first step that counts.

    It packs gradients anew in the order in which its first backward pass has them ready. With three ranks or more the
    place of a number in a bucket decides the order in which ranks are summed, so that a run that went on from a
    checkpoint would differ in its first step from one that was never stopped.
    """
    was_training = task.training
    task.eval()
    for _ in range(2):  # the second pass finds the new buckets and is thrown away as well
        module(batch, Draws(0, 0), epoch)["loss"].backward()
        task.zero_grad(set_to_none=True)
    task.train(was_training)
