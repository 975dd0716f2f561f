"""Exact search for the nearest code of each vector, in chunks: the N × K matrix of distances is never allocated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 32
"""Codes per block. The minimum of each block is taken first: `amin` is vectorised, `argmin` is not."""
MIN_DIM = 16
"""Vectors of 2 to 15 numbers are padded with zeros to this length, for which matrix products are faster."""
CENTRE_SAMPLE = 64
"""Number of codes, evenly spaced in the codebook, whose median is the centre (approximately)."""
CENTRE_RATIO = 0.25
"""Codes are centred if the norm of their centre exceeds this share of the largest distance of a code from it."""
CPU_SCORES, GPU_SCORES = 1 << 20, 1 << 26
"""Scores in memory at once: on CPU as many as fit in a core's cache, on a GPU enough to occupy it."""
PAIR_VALUES = 1 << 20
"""Elements in memory at once while near ties are resolved."""


@torch.no_grad()
def nearest_codes(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the index of the nearest code, in Euclidean distance, of each vector.

    The score of code k for vector x is ‖e_k‖²/2 − x·e_k, computed in float32. If the codes are far from 0, vectors and
    codes are centred first, since a common offset would cost precision. Where rounding errors could change the order
    of scores, the candidates are compared again by Σ(x − e)² in float64. The result is therefore the nearest code of
    the inputs as float32, whatever the chunks, the number of threads or the device.

    Args:
        vectors: (N, D), of any floating-point dtype.
        codes: (K, D), K ≥ 1.

    Returns:
        (N,) int64 in [0, K); the lowest index among equally near codes. The index of a vector with values that are
        not finite is in range and otherwise undefined.
    """
    vectors, codes = vectors.detach().float(), codes.detach().float()
    if vectors.is_meta or not len(vectors):
        return torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
    scorer = _Scorer(codes)
    rows = max(1, (CPU_SCORES if vectors.device.type == "cpu" else GPU_SCORES) // len(scorer.half_norms))
    with _full_float32_matmul():
        parts = [scorer.nearest_codes(chunk) for chunk in torch.split(vectors, rows)]
    return torch.cat(parts)


class _Scorer:
    """Codes prepared for the search: centred, and padded to whole blocks with codes that are never chosen."""

    def __init__(self, codes: Tensor) -> None:
        self.codes = codes
        # Any point among the codes would do. The median is robust to single far codes, the mean is not.
        centre = codes[:: -(-len(codes) // CENTRE_SAMPLE)].median(dim=0).values
        off_centre = bool(centre.norm() > CENTRE_RATIO * (codes - centre).norm(dim=1).amax())
        self.centre = centre if off_centre else None
        centred = codes - centre if off_centre else codes
        norms = centred.square().sum(dim=1)
        pad = -len(codes) % BLOCK
        self.dims = MIN_DIM - codes.shape[1] if 1 < codes.shape[1] < MIN_DIM else 0
        self.columns = F.pad(centred, (0, self.dims, 0, pad)).t()  # (D, K + pad)
        self.half_norms = F.pad(norms / 2, (0, pad), value=torch.inf)
        self.lengths = F.pad(norms.sqrt(), (0, pad))
        self.max_length = self.lengths.amax()
        self.slack = (codes.shape[1] + 4) * 2.0**-24

    def nearest_codes(self, vectors: Tensor) -> Tensor:
        """Return the indices (n,) of the nearest codes of vectors (n, D)."""
        n = len(vectors)
        centred = vectors if self.centre is None else vectors - self.centre
        padded = F.pad(centred, (0, self.dims)) if self.dims else centred
        scores = torch.addmm(self.half_norms, padded, self.columns, alpha=-1)  # (n, K + pad)
        blocks = scores.view(n, -1, BLOCK).amin(dim=2)  # (n, blocks)
        best, block = blocks.min(dim=1)
        length = torch.linalg.vector_norm(centred, dim=1)
        limit = best + 2 * self._error(length, self.max_length)
        inside = scores.view(n, -1, BLOCK)[torch.arange(n, device=block.device), block]  # (n, BLOCK)
        chosen = block * BLOCK + inside.argmin(dim=1)
        limit = limit[:, None]
        close = (blocks <= limit).sum(dim=1) + (inside <= limit).sum(dim=1)
        ambiguous = (close > 2).nonzero().squeeze(1)
        if len(ambiguous):
            scores, error = scores[ambiguous], self._error(length[ambiguous, None], self.lengths)
            candidates = scores - error <= (scores + error).amin(dim=1, keepdim=True)
            chosen[ambiguous] = self._resolve_ties(vectors[ambiguous], candidates)
        return chosen.clamp_(max=len(self.codes) - 1)

    def _error(self, vector: Tensor, code: Tensor) -> Tensor:
        """Return a bound of the rounding error of scores, given the norms of vectors and codes."""
        return self.slack * code * (vector + code / 2)

    def _resolve_ties(self, vectors: Tensor, candidates: Tensor) -> Tensor:
        """Choose among candidates by their distance in float64.

        Args:
            vectors: (n, D).
            candidates: (n, K + pad) bool, at least one per vector.

        Returns:
            (n,) int64: the nearest candidate, with the lowest index among equals.
        """
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
    """Compute float32 matrix products in full precision, even if the caller allows TF32 or bfloat16 for them."""
    allowed = [(b.matmul, b.matmul.fp32_precision) for b in (torch.backends.cuda, torch.backends.mkldnn)]
    try:
        for matmul, _ in allowed:
            matmul.fp32_precision = "ieee"
        yield
    finally:
        for matmul, precision in allowed:
            matmul.fp32_precision = precision
