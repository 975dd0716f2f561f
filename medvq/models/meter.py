"""How much of a codebook is used, over a whole split and all ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medvq.models.quantize.base import Quantizer
from medvq.models.ranks import sum_over_ranks_


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


class CodebookMeter:
    """Sums the counts of one codebook over batches, then over ranks."""

    def __init__(self, codebook_size: int) -> None:
        self.counts = torch.zeros(codebook_size, dtype=torch.int64)

    def add(self, indices: Tensor) -> None:
        """Count indices of any shape, in [0, K)."""
        found = torch.bincount(indices.reshape(-1), minlength=len(self.counts))
        self.counts = self.counts.to(found.device) + found

    def result(self) -> CodebookUse:
        """Over all ranks, of which every one must call it; counting may go on afterwards."""
        return codebook_use(sum_over_ranks_(self.counts.clone()))


class CodebookMeters:
    """One meter per codebook of a model."""

    def __init__(self, quantizers: Mapping[str, Quantizer]) -> None:
        self.meters = {name: CodebookMeter(quantizer.codebook_size) for name, quantizer in quantizers.items()}

    def add(self, indices: Mapping[str, Tensor]) -> None:
        """Count the indices of a batch, by codebook; those of a level that is not trained yet may be missing."""
        for name, found in indices.items():
            self.meters[name].add(found)

    def result(self) -> dict[str, CodebookUse]:
        """The use of every codebook over all ranks, of which every one must call it."""
        return {name: meter.result() for name, meter in self.meters.items()}
