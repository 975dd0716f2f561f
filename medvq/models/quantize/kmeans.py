"""Codebooks started from data: k-means on a keyed sample of the global batch, the same on every rank."""

from __future__ import annotations

import torch
from torch import Tensor

from medvq.models.draws import Draws
from medvq.models.quantize.kernels import nearest
from medvq.models.ranks import from_first_rank_, sum_over_ranks_

VECTORS_PER_CODE = 10
ITERATIONS = 10
ROUNDS = 8


@torch.no_grad()
def start_codes(vectors: Tensor, codebook_size: int, draws: Draws, purpose: str) -> Tensor:
    """K codes (K, D) from this rank's vectors (n, D); every rank holds as many, and all get the same codes.

    The sample does not depend on the number of ranks. With fewer vectors than codes, the codes left over are vectors
    moved by a tenth of the sample's standard deviation, so that they differ.
    """
    total = len(vectors) * draws.world
    wanted = max(codebook_size, min(total, VECTORS_PER_CODE * codebook_size))
    positions = draws.positions(wanted, total, purpose)
    sample = sum_over_ranks_(own_rows(vectors, positions, draws))
    if total < codebook_size:
        noise = torch.randn(wanted - total, vectors.shape[1], generator=draws.generator(f"{purpose}/spread"))
        sample[total:] += noise.to(sample) * sample[:total].std(dim=0, correction=0) / 10
    return from_first_rank_(kmeans(sample, codebook_size))


def own_rows(vectors: Tensor, positions: Tensor, draws: Draws) -> Tensor:
    """(m, D): the vectors at these positions (m,) of the global batch that this rank holds, and zeros for the others.

    Summed over ranks it is all of them, exactly.
    """
    local = positions.to(vectors.device) - draws.rank * len(vectors)
    mine = (local >= 0) & (local < len(vectors))
    return torch.where(mine[:, None], vectors[local.clamp(0, len(vectors) - 1)], 0.0)


def kmeans(sample: Tensor, codebook_size: int, iterations: int = ITERATIONS) -> Tensor:
    """K codes (K, D) for a sample (S, D) in random order, S ≥ K, by Lloyd's algorithm.

    Codes start in rounds, each where the errors of the last are (as k-means++ does one by one); a code that is left
    without vectors moves to where the errors are.
    """
    step = -(-codebook_size // ROUNDS)
    codes = sample[:step]
    while len(codes) < codebook_size:
        errors = (sample - codes[nearest(sample, codes)]).square().sum(dim=1)
        codes = torch.cat([codes, sample[_spread_by(errors, min(step, codebook_size - len(codes)))]])
    for _ in range(iterations):
        indices = nearest(sample, codes)
        counts, sums = count_and_sum(sample, indices, codebook_size)
        empty = (counts == 0).nonzero().squeeze(1)
        errors = (sample - codes[indices]).square().sum(dim=1)
        codes = sums / counts.clamp(min=1)[:, None]
        codes[empty] = sample[_spread_by(errors, len(empty))]
    return codes


def _spread_by(weights: Tensor, count: int) -> Tensor:
    """`count` positions (count,) in weights (S,), as many in each stretch as its share of the total weight."""
    total = (weights.double() + 1e-30).cumsum(dim=0)  # spread evenly where all weights are zero
    marks = (torch.arange(count, device=weights.device) + 0.5) / max(count, 1) * total[-1]
    return torch.searchsorted(total, marks).clamp_(max=len(weights) - 1)


def count_and_sum(vectors: Tensor, indices: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    """How many of the vectors (N, D) chose each code, (K,) float32, and their sums, (K, D) float32."""
    sums = vectors.new_zeros(codebook_size, vectors.shape[1]).index_add_(0, indices, vectors)
    return count_codes(indices, codebook_size), sums


def count_codes(indices: Tensor, codebook_size: int) -> Tensor:
    """How often each code (K,) is among the indices, float32."""
    return torch.bincount(indices.reshape(-1), minlength=codebook_size).float()
