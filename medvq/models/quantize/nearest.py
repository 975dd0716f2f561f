"""The nearest code of each vector: exact, in chunks, without the N × K matrix or a one-hot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 32
"""Scores are first reduced over this many codes at once, which vectorises where `argmin` does not."""
LEAST_DIM = 16
"""Shorter vectors, but for those of one number, get zeros appended: matrix products of fewer columns are slower."""
CPU_SCORES, GPU_SCORES = 1 << 20, 1 << 26
"""Scores held at once: as many as stay in a core's cache; enough to fill a GPU."""
PAIR_VALUES = 1 << 20
"""Numbers held at once while near ties are settled."""


@torch.no_grad()
def nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """Index (N,) int64 of the code (K, D) nearest to each vector (N, D) in Euclidean distance.

    k* = argmin_k ‖e_k‖²/2 − x·e_k in float32, both centred on the mean code so that a common offset cancels exactly.
    Scores that rounding cannot tell apart are compared again as Σ(x − e)² in float64, so that the answer is the exact
    nearest code of the float32 inputs, and the lowest index among equals, whatever the chunks, threads or device.
    """
    vectors, codes = vectors.detach().float(), codes.detach().float()
    if vectors.is_meta or not len(vectors):
        return torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
    scorer = _Scorer(codes)
    rows = max(1, (CPU_SCORES if vectors.device.type == "cpu" else GPU_SCORES) // len(scorer.half_norms))
    with _full_float32_matmul():
        parts = [scorer.nearest(chunk) for chunk in torch.split(vectors, rows)]
    return torch.cat(parts)


class _Scorer:
    """Codes prepared for scoring: centred, and padded to whole blocks by codes that are never chosen."""

    def __init__(self, codes: Tensor) -> None:
        self.codes = codes
        self.centre = codes.mean(dim=0)
        centred = codes - self.centre
        norms = centred.square().sum(dim=1)
        pad = -len(codes) % BLOCK
        self.dims = LEAST_DIM - codes.shape[1] if 1 < codes.shape[1] < LEAST_DIM else 0
        self.columns = F.pad(centred, (0, self.dims, 0, pad)).t()  # (D, K + pad)
        self.half_norms = F.pad(norms / 2, (0, pad), value=torch.inf)
        self.reach = norms.amax().sqrt()
        # |computed − exact| of one score is at most (D + 4)·2^-24·(‖x‖E + E²/2), E the longest code; two scores: twice.
        self.slack = (codes.shape[1] + 4) * 2.0**-23

    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices (n,) for vectors (n, D)."""
        n = len(vectors)
        centred = vectors - self.centre
        padded = F.pad(centred, (0, self.dims)) if self.dims else centred
        scores = torch.addmm(self.half_norms, padded, self.columns, alpha=-1)  # (n, K + pad)
        blocks = scores.view(n, -1, BLOCK).amin(dim=2)  # (n, blocks)
        best, block = blocks.min(dim=1)
        limit = best + self.slack * self.reach * (torch.linalg.vector_norm(centred, dim=1) + self.reach / 2)
        inside = scores.view(n, -1, BLOCK)[torch.arange(n, device=block.device), block]  # (n, BLOCK)
        chosen = block * BLOCK + inside.argmin(dim=1)
        limit = limit[:, None]
        close = (blocks <= limit).sum(dim=1) + (inside <= limit).sum(dim=1)
        doubtful = (close > 2).nonzero().squeeze(1)
        if len(doubtful):
            chosen[doubtful] = self._settle(vectors[doubtful], scores[doubtful] <= limit[doubtful])
        return chosen.clamp_(max=len(self.codes) - 1)

    def _settle(self, vectors: Tensor, candidates: Tensor) -> Tensor:
        """The exact nearest of each vector's (n, D) candidates (n, K + pad) bool; the lowest index among equals."""
        row, code = candidates.nonzero(as_tuple=True)
        step = max(1, PAIR_VALUES // vectors.shape[1])
        distance = torch.cat(
            [
                (vectors[r].double() - self.codes[c].double()).square().sum(dim=1)
                for r, c in zip(torch.split(row, step), torch.split(code, step), strict=True)
            ]
        )
        least = torch.full((len(vectors),), torch.inf, dtype=distance.dtype, device=distance.device)
        least.scatter_reduce_(0, row, distance, "amin")
        winner = distance == least[row]
        first = torch.full((len(vectors),), len(self.codes), dtype=code.dtype, device=code.device)
        return first.scatter_reduce_(0, row[winner], code[winner], "amin")


@contextmanager
def _full_float32_matmul() -> Iterator[None]:
    """Float32 products in float32, also where the caller allows TF32 or bfloat16 inside them."""
    allowed = [(b.matmul, b.matmul.fp32_precision) for b in (torch.backends.cuda, torch.backends.mkldnn)]
    try:
        for matmul, _ in allowed:
            matmul.fp32_precision = "ieee"
        yield
    finally:
        for matmul, precision in allowed:
            matmul.fp32_precision = precision
