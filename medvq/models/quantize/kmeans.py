"""Initial codes by k-means on a random sample of the global batch, with the same result on every rank."""

from __future__ import annotations

import torch
from torch import Tensor

from medvq.models.draws import Draws
from medvq.models.quantize.kernels import nearest_codes
from medvq.models.ranks import from_first_rank_, sum_over_ranks_

VECTORS_PER_CODE = 10
"""Size of the sample, per code."""
ITERATIONS = 10
"""Iterations of Lloyd's algorithm."""
ROUNDS = 8
"""Rounds in which initial codes are chosen."""


@torch.no_grad()
def start_codes(vectors: Tensor, codebook_size: int, draws: Draws, purpose: str) -> Tensor:
    """Return initial codes, the same on every rank.

    The sample does not depend on the number of ranks. If there are fewer vectors than codes, the remaining codes are
    vectors with added noise of a tenth of the sample's standard deviation.

    Args:
        vectors: the vectors (n, D) of this rank; n must be the same on every rank.
        codebook_size: K.
        draws: random numbers of this step.
        purpose: key of the random draws.

    Returns:
        Codes (K, D).
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
    """Return the vectors at positions of the global batch, with zeros for vectors of other ranks.

    The sum over ranks is exactly the selected vectors.

    Args:
        vectors: the vectors (n, D) of this rank.
        positions: positions (m,) in `range(n · world)`.
        draws: gives rank and number of ranks.

    Returns:
        (m, D).
    """
    local = positions.to(vectors.device) - draws.rank * len(vectors)
    mine = (local >= 0) & (local < len(vectors))
    return torch.where(mine[:, None], vectors[local.clamp(0, len(vectors) - 1)], 0.0)


def kmeans(sample: Tensor, codebook_size: int, iterations: int = ITERATIONS) -> Tensor:
    """Return the k-means of a sample by Lloyd's algorithm.

    Initial codes are chosen in rounds. Each round selects vectors in proportion to their squared error under the codes
    so far; k-means++ (Arthur and Vassilvitskii 2007) does the same with one code per round. A code without vectors is
    moved to a vector selected in the same way.

    Args:
        sample: vectors (S, D) in random order, S ≥ K.
        codebook_size: K.
        iterations: number of iterations.

    Returns:
        Codes (K, D).
    """
    step = -(-codebook_size // ROUNDS)
    codes = sample[:step]
    while len(codes) < codebook_size:
        errors = (sample - codes[nearest_codes(sample, codes)]).square().sum(dim=1)
        codes = torch.cat([codes, sample[_systematic_sample(errors, min(step, codebook_size - len(codes)))]])
    for _ in range(iterations):
        indices = nearest_codes(sample, codes)
        counts, sums = count_and_sum(sample, indices, codebook_size)
        empty = (counts == 0).nonzero().squeeze(1)
        errors = (sample - codes[indices]).square().sum(dim=1)
        codes = sums / counts.clamp(min=1)[:, None]
        codes[empty] = sample[_systematic_sample(errors, len(empty))]
    return codes


def _systematic_sample(weights: Tensor, count: int) -> Tensor:
    """Return `count` positions (count,) in weights (S,) by systematic sampling, in proportion to the weights."""
    total = (weights.double() + 1e-30).cumsum(dim=0)  # evenly spaced if all weights are 0
    marks = (torch.arange(count, device=weights.device) + 0.5) / max(count, 1) * total[-1]
    return torch.searchsorted(total, marks).clamp_(max=len(weights) - 1)


def count_and_sum(vectors: Tensor, indices: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    """Return for each code the number of vectors (N, D) assigned to it, (K,), and their sum, (K, D), as float32."""
    sums = vectors.new_zeros(codebook_size, vectors.shape[1]).index_add_(0, indices, vectors)
    return count_codes(indices, codebook_size), sums


def count_codes(indices: Tensor, codebook_size: int) -> Tensor:
    """Return how often each code occurs in `indices`, (K,) float32."""
    return torch.bincount(indices.reshape(-1), minlength=codebook_size).float()
