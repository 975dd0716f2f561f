"""Functions that the ranks of test_ranks.py run, and one rank for comparison. They return plain data."""

import functools
import operator

import torch
import torch.nn.functional as F
from quantizer_cases import CASES, DIM

from medvq.models.build import build
from medvq.models.draws import Draws
from medvq.models.norm import GlobalBatchNorm2d, convert_global_batchnorm
from medvq.models.svqvae.settings import SVQVAESettings
from medvq.models.vqvae.settings import VQVAESettings

STEPS = 4


def shard(batch, rank, world):
    size = len(batch) // world
    return batch[rank * size : (rank + 1) * size]


def average_gradients(module, world):
    """Average gradients over ranks, as DDP does."""
    if world > 1:
        for parameter in module.parameters():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= world


def train_quantizers(rank, world):
    """The state of every quantizer after each of a few steps, and its indices."""
    history = {}
    for name in sorted(CASES):
        torch.manual_seed(0)
        quantizer = CASES[name]()
        optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.5) if list(quantizer.parameters()) else None
        for step in range(STEPS):
            draws = Draws(3, step, rank, world)
            batch = torch.randn(4, DIM, 6, 6, generator=torch.Generator().manual_seed(step)) * (1 + step) + step
            z = shard(batch, rank, world).requires_grad_()
            out = quantizer(z, draws)
            (F.mse_loss(out.z_q, torch.zeros_like(z)) + out.penalty).backward()
            if optimizer is not None:
                average_gradients(quantizer, world)
                optimizer.step()
                optimizer.zero_grad()
            quantizer.update(draws)
            for key, value in quantizer.state_dict().items():
                history[f"{name}/{step}/{key}"] = value.clone().tolist()
        history[f"{name}/indices"] = out.indices.flatten().tolist()
    return history


def train_svqvae(rank, world):
    """Parameters' checksum, codebooks and loss of a small stacked model after a few steps of training."""
    torch.manual_seed(0)
    config = SVQVAESettings(levels=2, channels=8, residual_blocks=1, residual_channels=4, codebook_size=16, decay=0.8)
    model = build(config, input_shape=(3, 32, 32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for step in range(STEPS):
        draws = Draws(0, step, rank, world)
        batch = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
        out = model(shard(batch, rank, world), draws=draws)
        loss = sum(F.mse_loss(i, t) + p for i, t, p in zip(out.images, out.targets, out.penalties, strict=True))
        optimizer.zero_grad()
        loss.backward()
        average_gradients(model, world)
        optimizer.step()
        model.update_codebooks(draws)
        losses.append(float(loss.detach()))
    codebooks = {name: q.codebook.tolist() for name, q in model.quantizers().items()}
    return {"losses": losses, "codebooks": codebooks}


def train_vqvae(rank, world):
    """Running statistics, codebook, losses and last reconstruction of a small model with BatchNorm."""
    torch.manual_seed(0)
    model = build(VQVAESettings(channels=8, code_dim=8, codebook_size=16, residual_blocks=1), input_shape=(1, 16, 16))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(STEPS):
        draws = Draws(0, step, rank, world)
        batch = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1
        out = model(shard(batch, rank, world), draws=draws)
        loss = F.mse_loss(out.images[0], out.targets[0]) + out.penalties[0]
        optimizer.zero_grad()
        loss.backward()
        average_gradients(model, world)
        optimizer.step()
        model.update_codebooks(draws)
        losses.append(float(loss.detach()))
    running = [value.flatten().tolist() for name, value in model.named_buffers() if "running" in name]
    return {
        "losses": losses,
        "running": functools.reduce(operator.iadd, running, []),
        "codebook": model.quantizer.codebook.tolist(),
        "images": out.images[0].tolist(),
    }


def normalise(rank, world):
    """Output, gradients and statistics of a BatchNorm far from zero mean, where sums of squares would cancel."""
    norm = GlobalBatchNorm2d(3) if world > 1 else torch.nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -0.5]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    generator = torch.Generator().manual_seed(0)
    x = shard(100 + torch.randn(4, 3, 5, 6, generator=generator), rank, world).requires_grad_()
    weight = shard(torch.randn(4, 3, 5, 6, generator=generator), rank, world)
    out = norm(x)
    (out * weight).sum().backward()
    flat = torch.nn.Sequential(torch.nn.BatchNorm1d(5, momentum=None), torch.nn.BatchNorm1d(5, affine=False))
    deep = torch.nn.Sequential(torch.nn.BatchNorm3d(2, track_running_stats=False))
    for net in (flat, deep):
        convert_global_batchnorm(net)
    rows = shard(torch.randn(4, 5, generator=generator), rank, world)
    for _ in range(2):
        flat_out = flat(rows)
    volumes = shard(torch.randn(4, 2, 3, 3, 3, generator=generator), rank, world)
    return {
        "flat": flat_out.tolist(),
        "flat_mean": [m.running_mean.tolist() for m in flat],
        "flat_var": [m.running_var.tolist() for m in flat],
        "deep": deep(volumes).tolist(),
        "out": out.tolist(),
        "grad": x.grad.tolist(),
        "weight": norm.weight.grad.tolist() + norm.bias.grad.tolist(),
        "mean": norm.running_mean.tolist(),
        "var": norm.running_var.tolist(),
    }
