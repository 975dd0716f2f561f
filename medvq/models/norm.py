"""Batch normalisation (Ioffe and Szegedy 2015) over the global batch, on any device and any number of ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medvq.errors import UsageError
from medvq.models.ranks import rank, sum_over_ranks_, world_size

BatchNorm = _BatchNorm
"""The base class of all BatchNorms, for which torch has no public name."""


class _GlobalBatchNorm(BatchNorm):
    """BatchNorm that takes its training statistics over the images of all ranks.

    On one rank it equals torch's BatchNorm. Unlike `nn.SyncBatchNorm` it also runs on CPU. In training, every rank
    must call it, because it uses a collective operation.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, …) normalised per channel."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        with torch.autocast(device_type=x.device.type, enabled=False):
            normal, mean, var, count = _Standardise.apply(x.float(), self.eps)  # type: ignore[no-untyped-call]
            if self.affine:
                normal = normal * _per_channel(self.weight, x) + _per_channel(self.bias, x)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked += 1
                share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(var * (count / (count - 1)), share)
        out: Tensor = normal.to(x.dtype)
        return out


class GlobalBatchNorm1d(_GlobalBatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over the global batch, for (B, C) or (B, C, L)."""


class GlobalBatchNorm2d(_GlobalBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the global batch, for (B, C, H, W)."""


class GlobalBatchNorm3d(_GlobalBatchNorm, nn.BatchNorm3d):
    """`nn.BatchNorm3d` over the global batch, for (B, C, D, H, W)."""


def convert_global_batchnorm(model: nn.Module) -> None:
    """Turn the BatchNorm layers of `model` into their global versions, in place. Parameters keep names and values.

    Raises:
        UsageError: the model has a BatchNorm of another class, such as `nn.SyncBatchNorm` or a subclass.
    """
    global_versions = {
        nn.BatchNorm1d: GlobalBatchNorm1d,
        nn.BatchNorm2d: GlobalBatchNorm2d,
        nn.BatchNorm3d: GlobalBatchNorm3d,
    }
    for name, module in model.named_modules():
        if type(module) in global_versions:
            module.__class__ = global_versions[type(module)]
        elif isinstance(module, BatchNorm) and not isinstance(module, _GlobalBatchNorm):
            raise UsageError(
                f"{name} is a {type(module).__name__}, which cannot take its statistics over the global batch",
                hint="use nn.BatchNorm1d, 2d or 3d, or a norm without batch statistics, such as nn.GroupNorm",
            )


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Return values (C,) as (C, 1, …), which broadcasts with x (B, C, …)."""
    return values.view(-1, *[1] * (x.ndim - 2))


class _Standardise(torch.autograd.Function):
    """(x − mean) / √(var + eps) with mean and biased variance over all ranks; also returns mean, var and count."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [0, *range(2, x.ndim)]
        var, mean = torch.var_mean(x, dim=dims, correction=0)
        # Chan et al.'s formula combines the variances of ranks. Sums of squares would lose precision by cancellation.
        parts = x.new_zeros(world_size(), 2 * len(mean) + 1)
        local = x.new_tensor([x.numel() // x.shape[1]])
        parts[rank()] = torch.cat([mean, var, local])
        means, variances, counts = torch.split(sum_over_ranks_(parts), [len(mean), len(mean), 1], dim=1)
        count = counts.sum()
        share = counts / count
        mean = (share * means).sum(dim=0)
        var = (share * (variances + (means - mean).square())).sum(dim=0)
        scale = (var + eps).rsqrt()
        normal = (x - _per_channel(mean, x)) * _per_channel(scale, x)
        ctx.save_for_backward(normal, scale, count)
        ctx.mark_non_differentiable(mean, var, count)
        return normal, mean, var, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad = grads[0]
        normal, scale, count = ctx.saved_tensors
        dims = [0, *range(2, grad.ndim)]
        sums = torch.stack([grad.sum(dim=dims), (grad * normal).sum(dim=dims)])
        mean_term, scale_term = (_per_channel(s, grad) for s in sum_over_ranks_(sums) / count)
        return (grad - mean_term - normal * scale_term) * _per_channel(scale, grad), None
