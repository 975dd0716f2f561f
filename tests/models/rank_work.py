"""What the ranks of test_ranks.py run, and the same on one rank. Returns plain data only."""

import torch
import torch.nn.functional as F
from quantizer_cases import CASES, DIM

from medvq.config.models import Svqvae
from medvq.models.draws import Draws
from medvq.models.registry import build

STEPS = 4


def shard(batch, rank, world):
    size = len(batch) // world
    return batch[rank * size : (rank + 1) * size]


def average_gradients(module, world):
    """What DDP does."""
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
    config = Svqvae(levels=2, channels=8, residual_blocks=1, residual_channels=4, codebook_size=16, decay=0.8)
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
