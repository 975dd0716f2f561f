"""BatchNorm over the global batch, on any device and any number of ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medvq.errors import UsageError
from medvq.models.ranks import rank, sum_over_ranks_, world_size


class _OverRanks(_BatchNorm):
    """A BatchNorm whose training statistics are those of all ranks' images together.

    On one rank it is the stock one. Unlike `nn.SyncBatchNorm` it also runs on CPU. (B, C, …) in and out; every rank
    must call it, as for any collective.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, …)."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        with torch.autocast(device_type=x.device.type, enabled=False):
            normal, mean, var, count = _Standardise.apply(x.float(), self.eps)  # type: ignore[no-untyped-call]
            if self.affine:
                normal = normal * _beside(self.weight, x) + _beside(self.bias, x)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked += 1
                share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(var * (count / (count - 1)), share)
        out: Tensor = normal.to(x.dtype)
        return out


class GlobalBatchNorm1d(_OverRanks, nn.BatchNorm1d):
    """(B, C) or (B, C, L)."""


class GlobalBatchNorm2d(_OverRanks, nn.BatchNorm2d):
    """(B, C, H, W)."""


class GlobalBatchNorm3d(_OverRanks, nn.BatchNorm3d):
    """(B, C, D, H, W)."""


def convert_global_batchnorm(model: nn.Module) -> None:
    """Give the BatchNorms of a network the statistics of the global batch; weights and their names stay.

    Raises:
        UsageError: one is of a kind that cannot be changed.
    """
    ours = {nn.BatchNorm1d: GlobalBatchNorm1d, nn.BatchNorm2d: GlobalBatchNorm2d, nn.BatchNorm3d: GlobalBatchNorm3d}
    for name, module in model.named_modules():
        if type(module) in ours:
            module.__class__ = ours[type(module)]
        elif isinstance(module, _BatchNorm) and not isinstance(module, _OverRanks):
            raise UsageError(
                f"{name} is a {type(module).__name__}, whose statistics would not be those of the global batch",
                hint="take nn.BatchNorm1d, 2d or 3d, or a norm without running statistics",
            )


def _beside(values: Tensor, x: Tensor) -> Tensor:
    """(C,) as (C, 1, …), to go with x (B, C, …)."""
    return values.view(-1, *[1] * (x.ndim - 2))


class _Standardise(torch.autograd.Function):
    """(x − mean) / sqrt(var + eps) with mean and variance over all ranks; also returns mean, var and their count."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [0, *range(2, x.ndim)]
        var, mean = torch.var_mean(x, dim=dims, correction=0)
        # Variances of parts are combined by Chan's formula: sums of squares over ranks would cancel.
        parts = x.new_zeros(world_size(), 2 * len(mean) + 1)
        local = x.new_tensor([x.numel() // x.shape[1]])
        parts[rank()] = torch.cat([mean, var, local])
        means, variances, counts = torch.split(sum_over_ranks_(parts), [len(mean), len(mean), 1], dim=1)
        count = counts.sum()
        share = counts / count
        mean = (share * means).sum(dim=0)
        var = (share * (variances + (means - mean).square())).sum(dim=0)
        scale = (var + eps).rsqrt()
        normal = (x - _beside(mean, x)) * _beside(scale, x)
        ctx.save_for_backward(normal, scale, count)
        ctx.mark_non_differentiable(mean, var, count)
        return normal, mean, var, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad = grads[0]
        normal, scale, count = ctx.saved_tensors
        dims = [0, *range(2, grad.ndim)]
        sums = torch.stack([grad.sum(dim=dims), (grad * normal).sum(dim=dims)])
        along_mean, along_scale = (_beside(s, grad) for s in sum_over_ranks_(sums) / count)
        return (grad - along_mean - normal * along_scale) * _beside(scale, grad), None
