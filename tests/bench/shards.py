"""Packing and loading compared with others: `python tests/bench/shards.py [--rounds 5] [--data DIR] [--only pack 28]`.

One run, every contender in turn in every round, medians of the rounds, then ratios. Peers are no dependency of medvq:

    python -m venv PEERS && PEERS/bin/pip install torch==2.13.0 && PEERS/bin/pip install torchvision==0.28.0
    PEERS/bin/pip install . webdataset mosaicml-streaming litdata && PEERS/bin/python tests/bench/shards.py

`--no-peers` measures what medvq itself gives, and needs nothing but its own environment.

JPEGs (360 px) become 64 and 224 px uint8 batches of 32, shuffled, with the page cache warm and nothing kept in memory;
raw 28 px images are read as they are. A bare loop reads, decodes and resizes files with as many processes and moves
nothing between them: what is left of it is what a loader costs. Ratios in brackets are of processor time, which a busy
machine disturbs less.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import packing
import torch
from behind_dataloader import reader_behind_dataloader
from packing import TIMES, Seconds, multiplied, report_packing
from peers import BATCH, PEERS, Images, fit
from PIL import Image

from medvq.config.recipe import Recipe
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.decode import decode_image
from medvq.shards.load.geometry import resize
from medvq.shards.load.loader import Loader
from medvq.shards.load.view import View, ViewPart
from medvq.shards.pack.pack import pack

OURS, KEPT, BARE, BARE_PIL = "medvq", "medvq, kept in memory", "bare loop, same decoder", "bare loop, Pillow"
BEHIND = "medvq's Reader behind DataLoader"
DATA = Path(os.environ.get("MEDVQ_BENCH_DATA", "../shared/data"))
Rates = dict[str, tuple[float, float]]
"""Of every contender images a second and µs of processor time an image."""


def whole(dataset: Path, size: int) -> View:
    return View(parts=(ViewPart(dataset=Dataset.open(dataset)),), splits=("all",), size=(size, size))


def ours(dataset: Path, size: int, processes: int, keep_bytes: int) -> Callable[[int], int]:
    loader = Loader(whole(dataset, size), BATCH, 0, processes=processes, keep_bytes=keep_bytes)
    return lambda epoch: sum(len(b) for b in loader.epoch(epoch))


def theirs(name: str, folder: Path, size: int, processes: int) -> Callable[[int], int]:
    start = PEERS[name].batches(folder, size, processes)
    return lambda epoch: sum(len(batch[0]) for batch in start())


def bare(read: Callable[[Any], torch.Tensor], stored: list[Any], processes: int) -> Callable[[int], int]:
    """Each of `processes` (0: this one) makes batches of its share of `stored` and drops them."""

    def share(seed: int, which: int, of: int) -> int:
        order = np.random.default_rng(seed).permutation(len(stored))[which::of]
        for start in range(0, len(order), BATCH):
            torch.stack([read(stored[i]) for i in order[start : start + BATCH]])
        return len(order)

    def serve(pipe: Any, which: int) -> None:
        torch.set_num_threads(1)
        while (seed := pipe.recv()) is not None:
            pipe.send(share(seed, which, processes))

    if processes == 0:
        return lambda epoch: share(epoch, 0, 1)
    context, pipes = multiprocessing.get_context("fork"), []
    for which in range(processes):
        mine, other = context.Pipe()
        context.Process(target=serve, args=(other, which), daemon=True).start()
        pipes.append(mine)

    def run(epoch: int) -> int:
        for pipe in pipes:
            pipe.send(epoch)
        return sum(pipe.recv() for pipe in pipes)

    return run


def decode_ours(path: Path, size: int) -> torch.Tensor:
    return torch.from_numpy(resize(decode_image(path.read_bytes(), 3), (size, size))).permute(2, 0, 1)


def compare(work: Path, size: int, processes: int, rounds: int, *, peers: bool) -> Rates:
    """Run `measure` in a process of its own, away from the threads and processes of other settings."""
    arguments = ["--measure", str(work), str(size), str(processes), "--rounds", str(rounds)]
    arguments += [] if peers else ["--no-peers"]
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    rates: Rates = json.loads(done.stdout.splitlines()[-1])
    return rates


def measure(work: Path, size: int, processes: int, rounds: int, *, peers: bool) -> Rates:
    """Run every contender in turn in every round; return medians of the rounds."""
    contenders = {
        OURS: ours(work / "medvq", size, processes, keep_bytes=0),
        KEPT: ours(work / "medvq", size, processes, keep_bytes=1 << 30),
        BEHIND: reader_behind_dataloader(whole(work / "medvq", size), BATCH, processes),
        **{name: theirs(name, work / name, size, processes) for name in (PEERS if peers else ())},
    }
    if files := sorted((work / "files").rglob("*.jpg")):
        contenders[BARE] = bare(lambda p: decode_ours(p, size), files, processes)
        contenders[BARE_PIL] = bare(lambda p: fit(Image.open(p), size), files, processes)
    torch.set_num_threads(1)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    images = 0
    for round_ in range(rounds + 1):
        for name, run in contenders.items():
            start, cpu = time.perf_counter(), cpu_seconds(os.getpid())
            images = run(round_)
            if round_:  # The first warms up: processes start, pages are cached, images are kept.
                seconds[name].append((time.perf_counter() - start, cpu_seconds(os.getpid()) - cpu))
    wall, cpu_time = ({name: statistics.median(s[i] for s in spans) for name, spans in seconds.items()} for i in (0, 1))
    return {name: (images / wall[name], 1e6 * cpu_time[name] / images) for name in contenders}


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its descendants."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    children = [c for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(int(c)) for c in children)


def pixel_difference(images: Images, size: int) -> tuple[float, int]:
    """Mean and largest difference of our pixels from Pillow's, of 255."""
    found = [
        np.abs(
            resize(decode_image(data, 3), (size, size)).astype(int)
            - fit(Image.open(io.BytesIO(data)), size).permute(1, 2, 0).numpy()
        )
        for data, _ in images[::10]
    ]
    return float(np.mean([d.mean() for d in found])), int(max(d.max() for d in found))


def prepare(source: Path, work: Path, store: Literal["auto", "npy"], *, peers: bool) -> Images:
    """Pack `source`, write its JPEGs as files for the bare loop, and every peer's format from the same images."""
    dataset = work / "medvq"
    pack(source, dataset, Recipe(store=store), on_bad="skip", on_leak="report")
    data = Dataset.open(dataset)
    rows, labels = range(len(data)), data.column("label")
    images: Images = [(data.read(r), int(labels[r])) for r in rows]
    if store == "npy":
        images = [(decode_image(stored, 3), label) for stored, label in images]
    else:
        (work / "files").mkdir()
        for n, (stored, _) in enumerate(images):
            (work / "files" / f"{n:06d}.jpg").write_bytes(stored)
    for name in PEERS if peers else ():
        PEERS[name].write(images, work / name)
    return images


def report(title: str, table: dict[int, Rates]) -> None:
    names = list(next(iter(table.values())))
    print(f"\n### {title}\n\nImages/s (and µs of processor time an image) with 0, 1, 2 loader processes.\n")
    rows = [["", *map(str, table)], ["---"] * (len(table) + 1)]
    rows += [[name, *(f"{r[name][0]:.0f} ({r[name][1]:.0f})" for r in table.values())] for name in names]
    peers = [name for name in PEERS if name in names]
    best = [(max(r[p][0] for p in peers), min(r[p][1] for p in peers)) for r in table.values()] if peers else []
    behind, bare_ = ([r[name] for r in table.values()] if name in names else [] for name in (BEHIND, BARE))
    for name, others in (("fastest peer", best), ("Reader behind DataLoader", behind), ("bare loop", bare_)):
        pairs = zip((r[OURS] for r in table.values()), others, strict=False)
        rows.append([f"**medvq / {name}**", *(f"**{o[0] / t[0]:.2f}** ({t[1] / o[1]:.2f})" for o, t in pairs)])
    print("\n".join(f"| {' | '.join(row)} |" for row in rows if len(row) > 1))


def packing_table(source: Path, work: Path, rounds: int, *, peers: bool) -> dict[str, Seconds]:
    """`measure_packing` with 1 and 2 processes, each in a process of its own, of `source` and of many copies of it."""
    table, large = {}, multiplied(source, work / "many", TIMES)
    for folder in (source, large):
        for processes in (1, 2):
            arguments = [packing.__file__, str(folder), str(work), str(processes), str(rounds), str(int(peers))]
            done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True)
            count = len(list(folder.rglob("*.jpg")))
            table[f"{count:,} files, {processes}"] = json.loads(done.stdout.splitlines()[-1])
    shutil.rmtree(large)
    return table


PARTS = ("pack", "64", "224", "28")


def main() -> None:
    parser = argparse.ArgumentParser(description="packing and loading beside the others")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with pbc/ and pbc28/")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="packing, or loading at these sizes")
    parser.add_argument("--measure", nargs=3, metavar=("WORK", "SIZE", "PROCESSES"), help="one setting, as JSON")
    parser.add_argument("--no-peers", action="store_true", help="only what needs no other library")
    options = parser.parse_args()
    peers = not options.no_peers
    if options.measure:
        work, size, processes = options.measure
        print(json.dumps(measure(Path(work), int(size), int(processes), options.rounds, peers=peers)), flush=True)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(0)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    work = Path(tempfile.mkdtemp(prefix="bench-shards-", dir=options.work))
    jpegs = options.data / "pbc" / "PBC_dataset_normal_DIB"
    try:
        if "pack" in options.only:
            report_packing(len(list(jpegs.rglob("*.jpg"))), packing_table(jpegs, work, options.rounds, peers=peers))
        sizes = [size for size in (64, 224) if str(size) in options.only]
        images = prepare(jpegs, work / "jpeg", "auto", peers=peers) if sizes else []
        for size in sizes:
            mean, largest = pixel_difference(images, size)
            table = {n: compare(work / "jpeg", size, n, options.rounds, peers=peers) for n in (0, 1, 2)}
            report(f"360 px JPEG to {size} px (from Pillow's pixels: mean {mean:.4f} of 255, at most {largest})", table)
        if "28" in options.only:
            prepare(options.data / "pbc28" / "pbc28.npz", work / "raw", "npy", peers=peers)
            report("raw 28 px", {n: compare(work / "raw", 28, n, options.rounds, peers=peers) for n in (0, 1, 2)})
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
