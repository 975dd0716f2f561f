"""How much of a codebook is used, over a whole split and all ranks: counts of codes are summed first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CodebookUse:
    """How often each code was chosen. Perplexity grows with the number of positions: compare like with like."""

    counts: tuple[int, ...]
    """Times each of the K codes was chosen."""
    positions: int
    """How many codes were chosen in all."""
    used: int
    """Codes chosen at least once."""
    usage: float
    """used / K, in [0, 1]."""
    perplexity: float
    """exp(−Σ p log p), in [1, K]; p is the share of positions with each code. NaN without positions."""
    top10: float
    """Share of positions with one of the ten most frequent codes, in [0, 1]. NaN without positions."""


def code_counts(indices: Tensor, codebook_size: int) -> Tensor:
    """How often each of K codes is among indices of any shape, in [0, K): (K,) int64, to be summed over a split."""
    return torch.bincount(indices.reshape(-1), minlength=codebook_size)


def codebook_use(counts: Tensor) -> CodebookUse:
    """The use of a codebook from how often each code was chosen, (K,) integers, in float64."""
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
