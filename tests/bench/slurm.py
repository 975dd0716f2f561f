"""Time that medvq adds to SLURM: submitting compared with `sbatch`, `status` of many runs, time to the first step.

    sudo .venv/bin/python tests/bench/slurm.py            # a table in Markdown; about 3 minutes

It brings the testbed up for itself. Numbers are medians of `REPEATS`; `sbatch` is timed with the very script that
medvq sent. Nothing is cached between repeats but the file system.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
STATE = Path("/var/tmp/medvq-bench")
MEDVQ = [sys.executable, "-c", "from medvq.cli import main; main()"]
REPEATS = 5
STUDY = """\
study: bench
data: {cells: {dataset: smear, size: 32}}
defaults:
  model: {name: svqvae, levels: 1, channels: 8, residual_blocks: 1, residual_channels: 4, codebook_size: 16, head: [8]}
  data: {use: cells}
  train: {epochs: 50, batch_size: 16, optimizer: {lr: 1e-3}}
jobs:
  train: {task: autoencode, matrix: {train.seed: SEEDS}}
"""
PROFILE = """\
name: bench
where: slurm
slurm: {time: 20 min, nodes: NODES, cpus_per_node: 2, memory_gb: 3, grace: 30 s, extra: [EXTRA]}
"""


def testbed(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command of the testbed."""
    script = [sys.executable, str(TOP / "slurm/testbed/testbed.py"), *map(str, command)]
    environment = {**os.environ, "MEDVQ_TESTBED": str(STATE)}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done


class User:
    """A user on the login host, in a new folder with a study of so many runs."""

    def __init__(self, data: Path, runs: int, nodes: int = 1, extra: str = "--hold") -> None:
        self.folder = Path(tempfile.mkdtemp(dir=STATE / "shared"))
        self.data = data
        (self.folder / "bench.yaml").write_text(STUDY.replace("SEEDS", str(list(range(runs)))))
        (self.folder / "p.yaml").write_text(PROFILE.replace("NODES", str(nodes)).replace("EXTRA", extra))

    def medvq(self, *command: str | Path) -> str:
        """Run medvq there."""
        words = shlex.join(["env", f"PYTHONPATH={TOP}", *MEDVQ, *map(str, command)])
        return testbed("login", "--", "sh", "-c", f"cd {self.folder} && {words}").stdout

    def submit(self) -> str:
        """Send the study."""
        return self.medvq("submit", "bench.yaml", "--profile", "p.yaml", "--data", f"cells={self.data}")


def seconds(*steps: object) -> float:
    """Return the time of one call, without the time of the testbed's own command."""
    begin = time.monotonic()
    for step in steps:
        step()  # type: ignore[operator]
    return time.monotonic() - begin


def middle(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f}–{max(values):.2f})"


def submitting(data: Path, runs: int, idle: float) -> list[str]:
    """A row: the first submit, sbatch of the same script, a second submit that has nothing to do."""
    first, raw, second = [], [], []
    for _ in range(REPEATS):
        user = User(data, runs)
        first.append(seconds(user.submit) - idle)
        second.append(seconds(user.submit) - idle)
        (script,) = user.folder.glob("runs/*/submissions/*.sbatch")
        raw.append(seconds(lambda script=script: testbed("login", "--", "sbatch", script)) - idle)
        testbed("login", "--", "scancel", "-u", "root")
    return [
        f"submit {runs} run{'s' if runs > 1 else ''}",
        middle(first),
        f"raw sbatch {middle(raw)}; submit again {middle(second)}",
    ]


def watching(data: Path, runs: int, epochs: int, idle: float) -> list[str]:
    """A row: `status` of done, running and queued runs with their histories, and what SLURM's own commands take."""
    user = User(data, runs)
    user.submit()
    folders = [p.parent for p in sorted(user.folder.glob("runs/bench/*/run.json"))]
    metrics = {f"{s}/{m}": 0.123456 for s in ("train", "val") for m in ("loss", "mse", "psnr", "ssim", "perplexity")}
    for i, folder in enumerate(folders):
        lines = [{"event": "attempt", "hosts": ["node1"], "workers": 2, "threads": 1, "device": "cpu", "attempt": 1}]
        lines += [
            {"event": "epoch", "epoch": e + 1, "step": 10 * e, "metrics": metrics, "attempt": 1} for e in range(epochs)
        ]
        text = "".join(json.dumps({**line, "time": 1e9 + k}) + "\n" for k, line in enumerate(lines))
        (folder / "events.jsonl").write_text(text)
        if i % 2:
            (folder / "result.json").write_text(json.dumps({"metrics": metrics}))
    whole, queries = [], []
    for _ in range(REPEATS):
        whole.append(seconds(lambda: user.medvq("status", "bench")) - idle)
        ask = ("squeue -h -r -t all --me -o '%F_%K|%T|%N|%L|%r|%k' > /dev/null; sacct -n -P -j 1 > /dev/null",)
        queries.append(seconds(lambda ask=ask: testbed("login", "--", "sh", "-c", *ask)) - idle)
    start = [seconds(lambda: user.medvq("--version")) - idle for _ in range(REPEATS)]
    testbed("login", "--", "scancel", "-u", "root")
    return [
        f"status of {runs} runs of {epochs} epochs",
        middle(whole),
        f"of it the two queries {middle(queries)}, `medvq --version` {middle(start)}",
    ]


def beginning(data: Path, nodes: int) -> list[str]:
    """A row: from the start of the SLURM job to the first training step, and where it goes."""
    user = User(data, 1, nodes, "--nice=0")
    begin = time.time()
    user.submit()
    log: Path | None = None
    while log is None or "epoch 1" not in log.read_text():
        time.sleep(0.2)
        log = next(user.folder.glob("runs/bench/*/logs/attempt-1-rank-0.log"), None)
        if time.time() - begin > 300:
            raise SystemExit("the run does not begin")
    started = next(user.folder.glob("runs/bench/submissions/1.job")).stat().st_mtime
    events = [json.loads(x) for x in next(user.folder.glob("runs/bench/*/events.jsonl")).read_text().splitlines()]
    attempt = next(e["time"] for e in events if e["event"] == "attempt")
    epoch = next(e["time"] for e in events if e["event"] == "epoch")
    testbed("login", "--", "scancel", "-u", "root")
    what = f"{attempt - started:.1f} s to the attempt: Python, Ray on the nodes, workers; then {epoch - attempt:.1f} s"
    return [
        f"from job start to the end of epoch 1, {nodes} node{'s' if nodes > 1 else ''}",
        f"{epoch - started:.1f} s",
        what,
    ]


def main() -> None:
    """Measure and print."""
    sys.path.insert(0, str(TOP))
    from medvq.config.locate import find
    from medvq.config.recipe import load_recipe
    from medvq.shards.pack.pack import pack
    from medvq.shards.synth.smear import smear

    shared = [p for p in (TOP, Path(sys.prefix), Path(sys.base_prefix)) if p.is_relative_to("/tmp")]
    testbed("down")
    testbed("up", *(w for p in shared for w in ("--share", p)))
    try:
        data = STATE / "shared" / "smear"
        smear(STATE / "shared" / "tree", samples=160, size=32)
        pack(STATE / "shared" / "tree", data, load_recipe(find("shards", "smear")), processes=1)
        idle = statistics.median(seconds(lambda: testbed("login", "--", "true")) for _ in range(REPEATS))
        rows = [submitting(data, 1, idle), submitting(data, 200, idle), watching(data, 1000, 50, idle)]
        rows += [beginning(data, 1), beginning(data, 2)]
        print("| what | medvq | beside it |\n|---|---|---|")
        for row in rows:
            print(f"| {' | '.join(row)} |")
    finally:
        testbed("down")
        shutil.rmtree(STATE, ignore_errors=True)


if __name__ == "__main__":
    main()
