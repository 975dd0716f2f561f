"""Our EMA quantizer compared with vector-quantize-pytorch's and a one-hot textbook one: forward, backward, update.

    python tests/bench/quantizers.py --peer-python PEERS/bin/python [--quick] [--device cuda] [--keep-memory]

PEERS is a virtual environment with torch and `pip install vector-quantize-pytorch`; without it that column is empty.
Each figure is the median of five runs in a process of its own, after one to warm up, on the same numbers. `equal`
checks that the three chose the same codes (up to ties that rounding decides) and moved them alike. Peak memory is what
the process grew by. `--keep-memory` repeats all with an allocator that never gives memory back: what is then left of
the lead is arithmetic, the rest was page faults of what the others allocate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
CASES = [(n, k, d) for n in (1 << 14, 1 << 17) for k in (512, 8192) for d in (2, 64, 256)]
TARGETS = {2: 5.0, 64: 5.0, 256: 3.0}
"""How many times faster than vector-quantize-pytorch we must be, by D; than one-hot twice, everywhere."""
RUNS = 5
DECAY, EPS, BETA = 0.99, 1e-5, 0.25
Step = Callable[[Tensor], tuple[Tensor, Tensor]]
"""z (B, D, H, W) to (its gradient, indices (N,)) of one training step."""


def inputs(n: int, k: int, d: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """z (B, D, 64, 64), the gradient at its output, and the first codebook (K, D)."""
    generator = torch.Generator().manual_seed(0)
    shape = (n >> 12, d, 64, 64)
    drawn = (torch.randn(s, generator=generator).to(device) for s in (shape, shape, (k, d)))
    return tuple(drawn)  # type: ignore[return-value]


def backward(z_q: Tensor, penalty: Tensor, weight: Tensor, z: Tensor) -> Tensor:
    """The gradient at z of penalty + Σ z_q · weight, as it would come from a decoder."""
    return torch.autograd.grad([z_q, penalty], z, [weight, torch.ones_like(penalty)])[0]


def ours(codes: Tensor, weight: Tensor) -> tuple[Step, Callable[[], Tensor]]:
    sys.path.insert(0, str(ROOT))
    from medvq.models.draws import Draws
    from medvq.models.quantize.ema import EMAQuantizer

    quantizer = EMAQuantizer(*codes.shape, beta=BETA, decay=DECAY, eps=EPS, init="normal").to(codes.device)
    quantizer.codebook.copy_(codes)
    quantizer.sums.copy_(codes)
    steps = iter(range(1 << 30))

    def step(z: Tensor) -> tuple[Tensor, Tensor]:
        out = quantizer(z)
        grad = backward(out.z_q, out.penalty, weight, z)
        quantizer.update(Draws(0, next(steps)))
        return grad, out.indices.flatten()

    return step, lambda: quantizer.codebook


def theirs(codes: Tensor, weight: Tensor) -> tuple[Step, Callable[[], Tensor]]:
    from vector_quantize_pytorch import VectorQuantize

    size, dim = codes.shape
    quantizer = VectorQuantize(
        dim=dim, codebook_size=size, decay=DECAY, eps=EPS, commitment_weight=BETA, rotation_trick=False,
        accept_image_fmap=True,
    ).to(codes.device)  # fmt: skip
    inner = quantizer._codebook
    inner.embed.data.copy_(codes[None])
    inner.embed_avg.data.copy_(codes[None])

    def step(z: Tensor) -> tuple[Tensor, Tensor]:
        z_q, indices, penalty = quantizer(z)
        grad = backward(z_q, penalty.sum(), weight, z)
        return grad, indices.flatten()

    return step, lambda: inner.embed[0]


def onehot(codes: Tensor, weight: Tensor) -> tuple[Step, Callable[[], Tensor]]:
    """As in the public VQ-VAE-2 port, with counts that start at 1."""
    codebook, sums, counts = codes.clone(), codes.clone(), torch.ones(len(codes), device=codes.device)

    def step(z: Tensor) -> tuple[Tensor, Tensor]:
        rows = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        with torch.no_grad():
            distance = rows.square().sum(1, keepdim=True) - 2 * rows @ codebook.t() + codebook.square().sum(1)
            indices = distance.min(1).indices
            chosen = torch.nn.functional.one_hot(indices, len(codebook)).to(rows.dtype)
        q = codebook[indices]
        penalty = BETA * (q - rows).square().mean()
        z_q = (rows + (q - rows).detach()).view(z.shape[0], *z.shape[2:], -1).permute(0, 3, 1, 2)
        grad = backward(z_q, penalty, weight, z)
        with torch.no_grad():
            counts.mul_(DECAY).add_(chosen.sum(0) * (1 - DECAY))
            sums.mul_(DECAY).add_((chosen.t() @ rows) * (1 - DECAY))
            n = counts.sum()
            codebook.copy_(sums / ((counts + EPS) / (n + len(codebook) * EPS) * n)[:, None])
        return grad, indices

    return step, lambda: codebook


KINDS = {"ours": ours, "peer": theirs, "one-hot": onehot}


def measure(kind: str, case: tuple[int, int, int], device: str, clock: str, runs: int, out: Path) -> None:
    """In a process of its own: write seconds per step, the most memory it grew by, and the first step's results."""
    if clock == "cpu":
        torch.set_num_threads(1)
    now = time.process_time if clock == "cpu" else time.perf_counter
    z, weight, codes = inputs(*case, device)
    z.requires_grad_()
    step, codebook = KINDS[kind](codes, weight)
    before = memory(device, reset=True)
    grad, indices = step(z)
    peak = memory(device) - before
    results = {"grad": grad, "indices": indices, "codebook": codebook()}
    torch.save({name: value.detach().cpu().clone() for name, value in results.items()}, out.with_suffix(".pt"))
    del grad, indices, results
    seconds = []
    for _ in range(runs):
        start = now()
        step(z)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(now() - start)
    out.write_text(json.dumps({"seconds": statistics.median(seconds), "peak": peak}))


def memory(device: str, reset: bool = False) -> int:
    """Bytes: the most in use since the last reset, or in use now when resetting."""
    if device == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        return torch.cuda.max_memory_allocated()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = "VmRSS" if reset else "VmHWM"
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(row.split()[1]) for row in status.splitlines() if row.startswith(line))


def run(kind: str, case: tuple[int, int, int], args: argparse.Namespace, keep: bool) -> dict[str, Any] | None:
    """One measurement in a fresh process; None where it died, which is what running out of memory looks like."""
    python = args.peer_python if kind == "peer" else sys.executable
    if python is None:
        return None
    need = case[0] * case[1] * 4 * (6 if kind == "peer" else 4)
    if kind != "ours" and args.device == "cpu" and need > args.memory << 30:
        return None
    env = dict(os.environ) | ({"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)} if keep else {})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        child = [
            python,
            __file__,
            "--child",
            kind,
            *map(str, case),
            str(out),
            "--device",
            args.device,
            "--clock",
            args.clock,
        ]
        done = subprocess.run([*child, "--runs", str(args.runs)], env=env, capture_output=True, text=True, check=False)
        if not out.exists():
            print(f"# {kind} {case}: exit {done.returncode} {done.stderr.strip()[-200:]}", file=sys.stderr)
            return None
        return json.loads(out.read_text()) | {"results": torch.load(out.with_suffix(".pt"), weights_only=True)}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return whether both chose the same codes and moved them alike; a few may differ if rounding decides a tie."""
    same = one["indices"] == other["indices"].view_as(one["indices"])
    moved = (one["codebook"] - other["codebook"]).abs().amax(1) > 1e-3
    return bool((~same).sum() <= max(2, len(same) // 1000) and moved.sum() <= 2 * (~same).sum())


def table(args: argparse.Namespace, keep: bool) -> bool:
    """Print one table; return whether all targets are met."""
    threads = 1 if args.clock == "cpu" else torch.get_num_threads()
    print(f"\n{'allocator that keeps memory' if keep else 'as installed'}; {args.clock} time, {threads} threads")
    print("| N | K | D | one-hot ms | peer ms | ours ms | × one-hot | × peer | peak MB one-hot / peer / ours | equal |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    good = True
    for case in CASES:
        if (args.quick and case[0] * case[1] > 1 << 24) or (args.case and case != tuple(args.case)):
            continue
        found = {kind: run(kind, case, args, keep) for kind in ("one-hot", "peer", "ours")}
        mine = found["ours"]
        if mine is None:
            good = False
            continue
        others = {kind: found[kind] for kind in ("one-hot", "peer") if found[kind]}
        ratio = {kind: other["seconds"] / mine["seconds"] for kind, other in others.items()}
        same = all(equal(mine["results"], other["results"]) for other in others.values())
        good &= same and ratio.get("one-hot", 2) >= 2 and ratio.get("peer", 9) >= TARGETS[case[2]]
        if case[1] == 8192:
            good &= all(mine["peak"] <= other["peak"] / 10 for other in others.values())
        cells = [*map(str, case)]
        cells += [f"{1e3 * found[kind]['seconds']:.1f}" if found[kind] else "–" for kind in ("one-hot", "peer", "ours")]
        cells += [f"{ratio[kind]:.1f}" if kind in ratio else "–" for kind in ("one-hot", "peer")]
        peaks = (f"{found[kind]['peak'] / 1e6:.0f}" if found[kind] else "–" for kind in ("one-hot", "peer", "ours"))
        print(f"| {' | '.join([*cells, ' / '.join(peaks), 'yes' if same else 'NO'])} |", flush=True)
    return good


def main() -> int:
    """Run the tables; exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="the interpreter of the environment with vector-quantize-pytorch")
    parser.add_argument("--quick", action="store_true", help="only the smaller cases")
    parser.add_argument("--case", nargs=3, type=int, metavar=("N", "K", "D"), help="only this one")
    parser.add_argument("--keep-memory", action="store_true", help="also with an allocator that keeps memory")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"), help="cpu: one thread's time, if busy")
    parser.add_argument("--memory", type=int, default=12, help="GiB that the others may take before they are skipped")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind, n, k, d, out = args.child
        measure(kind, (int(n), int(k), int(d)), args.device, args.clock, args.runs, Path(out))
        return 0
    good = table(args, keep=False)
    if args.keep_memory:
        table(args, keep=True)
    print("\nall targets met" if good else "\nTARGETS MISSED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
