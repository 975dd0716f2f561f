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
MEDIAN_OF = 64
"""Codes, evenly spaced, whose median is the centre."""
NEAR_CENTRE = 0.25
"""Codes whose centre is nearer to 0 than this share of their reach are not centred: little would cancel."""
CPU_SCORES, GPU_SCORES = 1 << 20, 1 << 26
"""Scores held at once: as many as stay in a core's cache; enough to fill a GPU."""
PAIR_VALUES = 1 << 20
"""Numbers held at once while near ties are settled."""


@torch.no_grad()
def nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """Index (N,) int64 of the code (K, D) nearest to each vector (N, D) in Euclidean distance.

    k* = argmin_k ‖e_k‖²/2 − x·e_k in float32, both centred amid the codes where these lie off 0, so that a common
    offset cancels first.
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
        # Any point amid the codes will do; the mean would follow a single one that is far off.
        centre = codes[:: -(-len(codes) // MEDIAN_OF)].median(dim=0).values
        far = bool(centre.norm() > NEAR_CENTRE * (codes - centre).norm(dim=1).amax())
        self.centre = centre if far else None
        centred = codes - centre if far else codes
        norms = centred.square().sum(dim=1)
        pad = -len(codes) % BLOCK
        self.dims = LEAST_DIM - codes.shape[1] if 1 < codes.shape[1] < LEAST_DIM else 0
        self.columns = F.pad(centred, (0, self.dims, 0, pad)).t()  # (D, K + pad)
        self.half_norms = F.pad(norms / 2, (0, pad), value=torch.inf)
        self.lengths = F.pad(norms.sqrt(), (0, pad))
        self.reach = self.lengths.amax()
        self.slack = (codes.shape[1] + 4) * 2.0**-24

    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices (n,) for vectors (n, D)."""
        n = len(vectors)
        centred = vectors if self.centre is None else vectors - self.centre
        padded = F.pad(centred, (0, self.dims)) if self.dims else centred
        scores = torch.addmm(self.half_norms, padded, self.columns, alpha=-1)  # (n, K + pad)
        blocks = scores.view(n, -1, BLOCK).amin(dim=2)  # (n, blocks)
        best, block = blocks.min(dim=1)
        length = torch.linalg.vector_norm(centred, dim=1)
        limit = best + 2 * self._error(length, self.reach)
        inside = scores.view(n, -1, BLOCK)[torch.arange(n, device=block.device), block]  # (n, BLOCK)
        chosen = block * BLOCK + inside.argmin(dim=1)
        limit = limit[:, None]
        close = (blocks <= limit).sum(dim=1) + (inside <= limit).sum(dim=1)
        doubtful = (close > 2).nonzero().squeeze(1)
        if len(doubtful):
            scores, error = scores[doubtful], self._error(length[doubtful, None], self.lengths)
            candidates = scores - error <= (scores + error).amin(dim=1, keepdim=True)
            chosen[doubtful] = self._settle(vectors[doubtful], candidates)
        return chosen.clamp_(max=len(self.codes) - 1)

    def _error(self, vector: Tensor, code: Tensor) -> Tensor:
        """The most by which rounding changes a score, from the lengths of vector and code."""
        return self.slack * code * (vector + code / 2)

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
