"""Packing compared with other writers, for JPEGs whose bytes are kept. `shards.py` runs each in its own process.

Strict decoding of every image, spread over as many processes, is the yardstick: a packer that decodes nothing publishes
damaged images. It is done by the decoder that medvq uses, in a process that has imported it, as medvq's packing runs
here in a process that has imported what it needs and no more. The peers copy bytes, in one process, and check nothing.

The set is measured as it is and TIMES as large: what a packing does once (listing, planning, the index, starting
processes) weighs less there, and published sets are that large.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import simplejpeg

from medvq.shards.pack.pack import pack

OURS, STRICT = "medvq shard", "strict decoding of every image"
TIMES = 8
"""Copies of the set, each image with another resolution in its JFIF header: no two are the same file."""
WRITERS = ("webdataset", "MosaicML streaming", "litdata")
Seconds = dict[str, float]


def multiplied(source: Path, folder: Path, times: int) -> Path:
    """The JPEGs of `source`, `times` over, in `folder`."""
    for path in sorted(source.rglob("*.jpg")):
        data = path.read_bytes()
        assert data[6:10] == b"JFIF"
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        for n in range(times):
            target.with_stem(f"{path.stem}_{n}").write_bytes(data[:14] + (n + 2).to_bytes(2, "big") * 2 + data[18:])
    return folder


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


def others(files: list[Path]) -> dict[str, Callable[[Path], object]]:
    """The peers' writers, which are imported where they are measured: a process with torch in it forks slowly."""
    from peers import PEERS, Images

    labels = {folder: i for i, folder in enumerate(sorted({f.parent for f in files}))}

    def read() -> Images:
        return [(f.read_bytes(), labels[f.parent]) for f in files]

    return {name: lambda out, name=name: PEERS[name].write(read(), out) for name in WRITERS}


def measure_packing(source: Path, work: Path, processes: int, rounds: int, *, peers: bool) -> Seconds:
    """Run every contender in turn in every round; return medians of the rounds, in seconds."""
    files = sorted(source.rglob("*.jpg"))
    contenders: dict[str, Callable[[Path], object]] = {
        OURS: lambda out: pack(source, out, processes=processes, on_bad="skip", on_leak="report"),
        STRICT: lambda out: strictly(files, processes),
    }
    if peers:
        contenders["GNU tar"] = lambda out: subprocess.run(["tar", "-cf", str(out), str(source)], check=True)
        contenders |= others(files)
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


def report_packing(images: int, table: dict[str, Seconds]) -> None:
    """`table` has a column of seconds for each setting."""
    print(f"\n### packing JPEGs whose bytes pass through: {images:,}, and {TIMES} times as many\n")
    names = list(dict.fromkeys(name for seconds in table.values() for name in seconds))
    rows = [["seconds", *table], ["---"] * (len(table) + 1)]
    rows += [[name, *(f"{s[name]:.2f}" if name in s else "–" for s in table.values())] for name in names]
    rows.append(["**medvq / strict decoding**", *(f"**{s[OURS] / s[STRICT]:.2f}**" for s in table.values())])
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    source, work, processes, rounds, peers = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
    alone = bool(peers) and processes == 1 and source.name != "many"
    print(json.dumps(measure_packing(source, work, processes, rounds, peers=alone)))
