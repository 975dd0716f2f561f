"""Packing beside the other writers: JPEGs whose bytes pass through. Run by `shards.py`.

Strict decoding of every image, spread over as many processes, is the yardstick: a packer that decodes nothing publishes
damaged images. The peers copy bytes, in one process, and check nothing.
"""

from __future__ import annotations

import multiprocessing
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import simplejpeg
from peers import PEERS, Images

from medvq.shards.pack import pack

OURS, STRICT = "medvq shard", "strict decoding of every image"
WRITERS = ("webdataset", "MosaicML streaming", "litdata")
Seconds = dict[str, float]


def decode_all(files: list[Path]) -> None:
    for path in files:
        simplejpeg.decode_jpeg(path.read_bytes(), "RGB", strict=True)


def strictly(files: list[Path], processes: int) -> None:
    if processes == 1:
        return decode_all(files)
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=decode_all, args=(files[i::processes],)) for i in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return None


def measure_packing(source: Path, work: Path, processes: int, rounds: int) -> Seconds:
    """Every contender in turn in every round; medians of the rounds, in seconds."""
    files = sorted(source.rglob("*.jpg"))
    labels = {folder: i for i, folder in enumerate(sorted({f.parent for f in files}))}

    def read() -> Images:
        return [(f.read_bytes(), labels[f.parent]) for f in files]

    contenders: dict[str, Callable[[Path], object]] = {
        OURS: lambda out: pack(source, out, processes=processes, on_bad="skip", on_leak="report"),
        STRICT: lambda out: strictly(files, processes),
    }
    if processes == 1:
        contenders["GNU tar"] = lambda out: subprocess.run(["tar", "-cf", str(out), str(source)], check=True)
        contenders |= {name: lambda out, name=name: PEERS[name].write(read(), out) for name in WRITERS}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, run in contenders.items():
            out = work / f"out-{round_}"
            start = time.perf_counter()
            run(out)
            if round_:  # The first warms up: libraries are imported, pages are cached.
                seconds[name].append(time.perf_counter() - start)
            shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
    return {name: statistics.median(spans) for name, spans in seconds.items()}


def report_packing(images: int, table: dict[int, Seconds]) -> None:
    print(f"\n### packing {images} JPEGs whose bytes pass through\n\nSeconds with 1 and 2 processes.\n")
    names = list(dict.fromkeys(name for seconds in table.values() for name in seconds))
    rows = [["", *map(str, table)], ["---"] * (len(table) + 1)]
    rows += [[name, *(f"{s[name]:.2f}" if name in s else "–" for s in table.values())] for name in names]
    rows.append(["**medvq / strict decoding**", *(f"**{s[OURS] / s[STRICT]:.2f}**" for s in table.values())])
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))
