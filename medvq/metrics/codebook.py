"""Codebook usage over a whole split and all ranks, from summed counts of codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CodebookUse:
    """How often each code was chosen.

    Perplexity grows with the number of positions; compare values for the same number of positions only.
    """

    counts: tuple[int, ...]
    """How often each of the K codes was chosen."""
    positions: int
    """Total number of choices."""
    used: int
    """Number of codes that were chosen at least once."""
    usage: float
    """used / K, in [0, 1]."""
    perplexity: float
    """exp(−Σ p log p), in [1, K]; p is the share of positions with each code. NaN without positions."""
    top10: float
    """Share of positions with one of the ten most frequent codes, in [0, 1]. NaN without positions."""


def code_counts(indices: Tensor, codebook_size: int) -> Tensor:
    """Count how often each code occurs; counts of several batches can be summed.

    Args:
        indices: code indices of any shape, in [0, K).
        codebook_size: K.

    Returns:
        (K,) int64.
    """
    return torch.bincount(indices.reshape(-1), minlength=codebook_size)


def codebook_use(counts: Tensor) -> CodebookUse:
    """Return the usage of a codebook from the counts of its codes, (K,) integers. Computed in float64."""
    counts = counts.cpu()
    total = int(counts.sum())
    share = counts.double() / total
    used = int((counts > 0).sum())
    return CodebookUse(
        counts=tuple(counts.tolist()),
        positions=total,
        used=used,
        usage=used / len(counts),
        perplexity=float(torch.exp(-torch.special.xlogy(share, share).sum())),
        top10=float(share.topk(min(10, len(share))).values.sum()),
    )
