"""BatchNorm over the global batch, on any device and any number of ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medvq.models.ranks import rank, sum_over_ranks_, world_size


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics are those of all ranks' images together.

    On one rank it is `nn.BatchNorm2d`. Unlike `nn.SyncBatchNorm` it also runs on CPU. (B, C, H, W) in and out; every
    rank must call it, as for any collective.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, H, W)."""
        if not self.training or world_size() == 1 or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        with torch.autocast(device_type=x.device.type, enabled=False):
            normal, mean, var, count = _Standardise.apply(x.float(), self.eps)  # type: ignore[no-untyped-call]
            if self.affine:
                normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(var * (count / (count - 1)), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        out: Tensor = normal.to(x.dtype)
        return out


class _Standardise(torch.autograd.Function):
    """(x − mean) / sqrt(var + eps) with mean and variance over all ranks; also returns mean, var and their count."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
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
        normal = (x - mean[:, None, None]) * scale[:, None, None]
        ctx.save_for_backward(normal, scale, count)
        ctx.mark_non_differentiable(mean, var, count)
        return normal, mean, var, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad = grads[0]
        normal, scale, count = ctx.saved_tensors
        sums = torch.stack([grad.sum(dim=(0, 2, 3)), (grad * normal).sum(dim=(0, 2, 3))])
        along_mean, along_scale = (sum_over_ranks_(sums) / count)[:, :, None, None].unbind()
        return (grad - along_mean - normal * along_scale) * scale[:, None, None], None
