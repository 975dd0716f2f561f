"""The training loop beside a hand-written one, Ray beside torchrun, how long it takes to begin, and augmentation.

    python tests/bench/train.py [--parts loop launchers begin restart augment] [--samples N] [--size N]

Everything is compared within one run of this program: medians of steps or runs that take turns, as ratios. The
hand-written loop is what one would write for the same model: the same batches, augmentation, optimizer and EMA update,
DDP, and the loss printed every ten steps; it has no checkpoints, no watch for bad losses and no way to stop.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
ROUNDS = 5
STUDY = """\
study: bench
data: {{cells: {{dataset: smear, size: {size}}}}}
jobs:
  pretrain:
    task: autoencode
    model: {{name: svqvae, levels: 1, channels: 32, residual_blocks: 2, residual_channels: 16, codebook_size: 256,
             code_dim: 4, head: [128]}}
    data: {{use: cells, augment: {{flip: true, rotate: 180}}}}
    train: {{epochs: {epochs}, batch_size: 32, optimizer: {{lr: 3e-3, weight_decay: 0.05}}, schedule: cosine}}
    resources: {{checkpoint_every: 1 h}}
"""


def make_data(folder: Path, samples: int, size: int) -> None:
    """A packed smear, as `medvq synth smear` and `medvq shard` make it."""
    from medvq.config.locate import find
    from medvq.config.recipe import load_recipe
    from medvq.shards.pack.pack import pack
    from medvq.shards.synth.smear import smear

    smear(folder / "tree", samples=samples, size=size)
    pack(folder / "tree", folder / "datasets/smear", load_recipe(find("shards", "smear")), processes=2)


def write_study(folder: Path, size: int, epochs: int) -> Path:
    path = folder / f"bench{epochs}.yaml"
    path.write_text(STUDY.format(size=size, epochs=epochs))
    return path


# ---- the loop


def loop_rank(folder: Path, study: str, rank: int, size: int) -> None:
    """One rank of the comparison: steps of medvq's loop and of the hand-written one take turns."""
    from medvq.config.resolve import load_study
    from medvq.files import make_folder
    from medvq.launch.data import find_data
    from medvq.launch.plan import make_plan
    from medvq.runs.owner import claim
    from medvq.runs.process import Process
    from medvq.train.listener import Listeners
    from medvq.train.loop import train
    from medvq.train.recorder import Recorder
    from medvq.train.setup import open_session
    from medvq.train.world import pin, process_group

    read = load_study(study)
    found = find_data(
        read, read.jobs, given={}, datasets=folder / "datasets", study_folder=folder / "runs/bench", make=None
    )
    plan = make_plan(read, found, runs=folder / f"loop{size}-{rank}")
    (spec,) = plan.runs
    run = plan.folder_of(spec)
    make_folder(run.checkpoints)
    make_folder(run.logs)
    pin(1)
    with process_group(
        rank=rank, size=size, device=torch.device("cpu"), threads=1, launcher="bench", store=folder / f"store{size}"
    ) as world:
        owner = claim(run.owner, Process.current())
        sessions = {name: open_session(spec, run, world, lambda: False) for name in ("medvq", "by hand")}
        steps: dict[str, list[float]] = {"medvq": [], "by hand": []}
        ours, theirs = sessions["medvq"], by_hand(sessions["by hand"])
        recorder = Recorder(ours, run, owner, Listeners({}))
        after_step, begin = recorder.after_step, ours.enter
        clock = time.perf_counter()

        def timed_step() -> None:
            nonlocal clock
            after_step()
            steps["medvq"].append(time.perf_counter() - clock)
            steps["by hand"].append(next(theirs))
            clock = time.perf_counter()

        def timed_enter(epoch: int) -> torch.nn.Module:
            nonlocal clock
            if epoch == 1:  # the first one warmed up
                for seconds in steps.values():
                    seconds.clear()
            module = begin(epoch)
            clock = time.perf_counter()
            return module

        recorder.after_step, ours.enter = timed_step, timed_enter  # type: ignore[method-assign]
        train(ours, recorder)
    if rank == 0:
        (folder / f"loop{size}.json").write_text(json.dumps(steps))


def by_hand(session: Any) -> Any:
    """A plain training loop; gives the seconds of one step after the other."""
    from medvq.models.draws import Draws
    from medvq.train.augmentation.geometric import augment
    from medvq.train.optim import make_optimizer
    from medvq.train.tasks.base import Batch

    task, world, settings = session.task, session.world, session.settings
    task.train()
    for name, parameter in task.model.named_parameters():
        parameter.requires_grad_(not name.startswith("head"))
    module = DistributedDataParallel(task, broadcast_buffers=False) if world.size > 1 else task
    optimizer = make_optimizer(task.model, settings, fused=True)
    step = 0
    for epoch in range(settings.epochs):
        for group in optimizer.param_groups:
            group["lr"] = settings.optimizer.lr
        clock = time.perf_counter()
        for read in session.loaders["train"].epoch(epoch):
            draws = Draws(0, step, world.rank, world.size)
            part = torch.zeros(len(read.label), dtype=torch.int64)
            x = task.pixels.normalize(read.image, part)
            x, _ = augment(x, None, session.spec.config.data.augment, draws)
            losses = module(Batch(keys=(), x=x, label=read.label, part=part), draws, epoch)
            losses["loss"].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            task.model.update_codebooks(draws)
            if step % 10 == 0:
                print(losses["loss"].item(), file=sys.stderr)
            step += 1
            yield time.perf_counter() - clock
            clock = time.perf_counter()


def bench_loop(folder: Path, size: int) -> bool:
    study = write_study(folder, size, ROUNDS + 1)
    print("\n| workers | medvq, images/s | by hand, images/s | ratio |\n|---|---|---|---|")
    good = True
    for workers in (1, 2):
        command = [sys.executable, __file__, "--rank", str(folder), str(study)]
        said = folder / "ranks.err"
        with said.open("w") as log:
            group = [subprocess.Popen([*command, str(r), str(workers)], stderr=log) for r in range(workers)]
            if sum(abs(p.wait()) for p in group):
                raise RuntimeError(said.read_text())
        found = json.loads((folder / f"loop{workers}.json").read_text())
        ours, theirs = (statistics.median(found[name]) for name in ("medvq", "by hand"))
        good &= theirs / ours >= 0.98
        print(f"| {workers} | {32 / ours:.0f} | {32 / theirs:.0f} | {theirs / ours:.3f} |", flush=True)
    return good


# ---- whole runs


def start(folder: Path, study: Path, runs: str, *more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from medvq.cli import main; main()", "run", str(study)]
    return subprocess.Popen(
        [*command, "--datasets", str(folder / "datasets"), "--runs", str(folder / runs), *more],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(folder / f"{runs}.err").open("ab"),
    )


def events(folder: Path, runs: str) -> list[dict[str, Any]]:
    return [json.loads(line) for p in (folder / runs).glob("*/*/events.jsonl") for line in p.read_text().splitlines()]


def first_step(folder: Path, runs: str, after: int = 0) -> tuple[float, float]:
    """Wait for the first step beyond `after`; returns when the attempt began and when the step was done."""
    while True:
        for path in (folder / runs).glob("*/*/progress.json"):
            try:
                if json.loads(path.read_text())["step"] > after:
                    begun = max(e["time"] for e in events(folder, runs) if e["event"] == "attempt")
                    return begun, path.stat().st_mtime
            except (OSError, ValueError):
                continue
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait()


def bench_launchers(folder: Path, size: int) -> bool:
    """Seconds of each epoch of a run except the first."""
    study = write_study(folder, size, 5)
    found: dict[str, list[float]] = {"torchrun": [], "ray": []}
    for i, name in enumerate(["torchrun", "ray"] * 2):
        runs = f"{name}{i}"
        start(folder, study, runs, "--workers", "2", "--set", f"resources.launcher={name}").wait()
        times = [e["time"] for e in events(folder, runs) if e["event"] == "epoch"]
        found[name] += [end - begin for begin, end in itertools.pairwise(times)]
    ray, torchrun = (statistics.median(found[name]) for name in ("ray", "torchrun"))
    print(f"\nSeconds an epoch on 2 workers: Ray {ray:.2f}, torchrun {torchrun:.2f}, ratio {torchrun / ray:.3f}")
    return torchrun / ray >= 0.97


def bench_begin(folder: Path, size: int) -> bool:
    study = write_study(folder, size, 400)
    print("\nSeconds from `medvq run` to the first step\n")
    print("| | to the attempt (plan, start of workers) | to the first step (data, model) | in all |\n|---|---|---|---|")
    for name, more in {
        "in-process": ["--workers", "0"],
        "torchrun, 2 workers": ["--workers", "2", "--set", "resources.launcher=torchrun"],
        "Ray, 2 workers": ["--workers", "2"],
    }.items():
        cells = []
        for i in range(3):
            runs, begin = f"begin-{name[:3]}{i}", time.time()
            process = start(folder, study, runs, *more)
            attempt, step = first_step(folder, runs)
            stop(process)
            cells.append((attempt - begin, step - attempt, step - begin))
        print(f"| {name} | " + " | ".join(f"{statistics.median(c):.1f}" for c in zip(*cells, strict=True)) + " |")
    return True


def bench_restart(folder: Path, size: int) -> bool:
    """Time from the start of an attempt to its first new step, early and late in a run."""
    study, found = write_study(folder, size, 400), {}
    for name, position in (("early", 5), ("late", 300)):
        runs, seconds = f"restart-{name}", []
        process = start(folder, study, runs, "--workers", "0")
        first_step(folder, runs, position)
        stop(process)
        for _ in range(3):
            after = max(e["step"] for e in events(folder, runs) if e["event"] == "checkpoint")
            process = start(folder, study, runs, "--workers", "0")
            attempt, step = first_step(folder, runs, after)
            stop(process)
            seconds.append(step - attempt)
        found[name] = statistics.median(seconds)
    print(f"\nSeconds from restart to the first new step: early {found['early']:.2f}, late {found['late']:.2f}")
    return found["late"] <= 1.25 * found["early"]


# ---- augmentation


def bench_augment(folder: Path, size: int) -> bool:
    """Milliseconds for 64 images of each random change, beside torchvision's kernels called for each image."""
    from medvq.config.augment import Augment
    from medvq.models.draws import Draws
    from medvq.models.vision import import_torchvision
    from medvq.train.augmentation.geometric import augment
    from medvq.train.augmentation.photometric import add_noise, blur, recolour

    vision = import_torchvision("torchvision.transforms.v2.functional")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    x, draws = torch.rand(64, 3, size, size, device=device), Draws(0, 0)
    some, bend = (draws.uniform((64,), "x") * 0.4).tolist(), torch.randn(1, size, size, 2, device=device) / size
    bilinear = vision.InterpolationMode.BILINEAR
    changes: dict[str, tuple[Any, Any]] = {
        "flip": (True, lambda i, a: vision.horizontal_flip(i)),
        "rotate": (180, lambda i, a: vision.rotate(i, 400 * a, bilinear)),
        "scale": ((0.8, 1.2), lambda i, a: vision.affine(i, 0.0, [0, 0], 0.8 + a, [0.0], bilinear)),
        "translate": (0.1, lambda i, a: vision.affine(i, 0.0, [3, 4], 1.0, [0.0], bilinear)),
        "elastic": ({"displacement": 2, "spacing": 16}, lambda i, a: vision.elastic(i, bend)),
        "brightness": (0.2, lambda i, a: vision.adjust_brightness(i, 0.8 + a)),
        "contrast": (0.2, lambda i, a: vision.adjust_contrast(i, 0.8 + a)),
        "saturation": (0.2, lambda i, a: vision.adjust_saturation(i, 0.8 + a)),
        "hue": (0.2, lambda i, a: vision.adjust_hue(i, a - 0.2)),
        "blur": ((0.1, 2.0), lambda i, a: vision.gaussian_blur(i, [13, 13], [0.1 + 4 * a] * 2)),
        "noise": ((0, 0.05), lambda i, a: vision.gaussian_noise(i, 0.0, 0.1 * a)),
    }

    def ours(name: str, settings: Augment) -> Any:
        if name in ("blur", "noise"):
            return (blur if name == "blur" else add_noise)(x, getattr(settings, name), draws)
        return recolour(x, settings, draws) if settings.changes_colour else augment(x, None, settings, draws)

    def milliseconds(do: Any) -> float:
        begin = time.perf_counter()
        do()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - begin)

    print(f"\nMilliseconds for 64 images of {size} px on {device}, one thread, medians")
    print("\n| | medvq | torchvision, image by image | ratio |\n|---|---|---|---|")
    for name, (amount, kernel) in changes.items():
        settings = Augment.model_validate({name: amount})
        contenders = {
            "medvq": lambda name=name, settings=settings: ours(name, settings),
            "torchvision": lambda kernel=kernel: torch.stack([kernel(i, a) for i, a in zip(x, some, strict=True)]),
        }
        times: dict[str, list[float]] = {who: [] for who in contenders}
        for _ in range(2 * ROUNDS + 1):
            for who, do in contenders.items():
                times[who].append(milliseconds(do))
        mine, theirs = (statistics.median(t[1:]) for t in times.values())
        print(f"| {name} | {mine:.1f} | {theirs:.1f} | {theirs / mine:.1f} |", flush=True)
    return True


def main() -> int:
    """Run the requested parts; exit with 1 if a target is missed."""
    parts = {
        "loop": bench_loop,
        "launchers": bench_launchers,
        "begin": bench_begin,
        "restart": bench_restart,
        "augment": bench_augment,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--samples", type=int, default=900)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rank", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank:
        loop_rank(Path(args.rank[0]), args.rank[1], int(args.rank[2]), int(args.rank[3]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        if set(args.parts) != {"augment"}:
            make_data(Path(folder), args.samples, args.size)
        results = {name: parts[name](Path(folder), args.size) for name in args.parts}
    missed = [name for name, good in results.items() if not good]
    print(f"\ntargets missed: {', '.join(missed)}" if missed else "\nall targets met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
