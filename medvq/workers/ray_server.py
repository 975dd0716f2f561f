"""A server process that holds one Ray instance and trains groups of runs on it.

It reads requests from stdin and writes answers to stdout, one JSON line each. When parts of Ray die, Ray ends the
process that started it, without a message and without a way to recover. So Ray never runs in the process that the user
started. The server ends when its stdin closes, which also happens when its owner is killed. It does not import torch,
which takes seconds and which only workers need.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    # Seconds between two polls of the workers by the controller. The end of a group is noticed at a poll.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # On a busy machine, or from a cold network disk, imports take long.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "token",
}
LOOPBACK = "127.0.0.1"
NODE_LABEL = "slurm-"
"""Prefix of the custom Ray resource that names each node of a SLURM job."""
JOIN_WITHIN = 300.0
"""Seconds to wait until all nodes have joined Ray."""


def main() -> None:
    """Serve requests, one after the other, until stdin closes.

    The first line says which Ray to use: `{"workers", "gpus"}` starts one, `{"address", "nodes", "storage"}` joins one.
    Every later line is a request with the arguments of `_fit`: the runs, the size of the group and the stop file.
    """
    folder = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints to stdout, where only answers may go
    lines = iter(sys.stdin.readline, "")
    import ray  # takes seconds, so it starts before the first line arrives

    cluster = json.loads(next(lines))
    storage, local = Path(cluster.pop("storage", folder)), "address" not in cluster
    _start(folder, **cluster) if local else _join(**cluster)
    # SLURM sends SIGTERM to every process of a job that it ends, but the workers must first write a checkpoint.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in lines:
        request = json.loads(line)
        done = threading.Thread(target=_answer, args=(storage, local, request, answers), daemon=True)
        done.start()
    threading.Timer(20, os._exit, (1,)).start()
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _start(folder: Path, workers: int, gpus: int) -> None:
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    import ray
    from ray._private import node, ray_constants

    # Ray binds its servers to loopback only if it does not expect a cluster.
    ray_constants.ENABLE_RAY_CLUSTER = False
    # One machine cannot grow, and workers write their own logs: two processes less that import Ray.
    node.Node.start_monitor = node.Node.start_log_monitor = lambda _: None
    ray.init(
        address="local",
        num_cpus=workers,
        num_gpus=gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=10**8,
        _node_ip_address=LOOPBACK,
        _temp_dir=str(folder),
    )


def _join(address: str, nodes: list[str]) -> None:
    """Join the Ray cluster at `address`, and wait until all `nodes` (SLURM's names of them) have joined it.

    Raises:
        TimeoutError: a node is missing after `JOIN_WITHIN` seconds.
    """
    import ray

    ip = address.partition(":")[0]
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, _node_ip_address=ip)
    end = time.monotonic() + JOIN_WITHIN
    missing = set(nodes)
    while missing:
        there = {label for node in ray.nodes() if node["Alive"] for label in node["Resources"]}
        missing = {name for name in nodes if NODE_LABEL + name not in there}
        if missing and time.monotonic() > end:
            raise TimeoutError(f"no Ray on {', '.join(sorted(missing))} after {JOIN_WITHIN:.0f} s")
        time.sleep(0.1)


def _answer(storage: Path, local: bool, request: dict[str, Any], answers: Any) -> None:
    error: str | None = None
    try:
        _fit(storage, local, **request)
    except BaseException as e:  # the owner handles it
        lines = [line.strip() for line in str(e).splitlines() if line.strip()]
        error = f"{type(e).__name__}: {lines[-1] if lines else ''}"
    answers.write(json.dumps({"error": error}) + "\n")
    answers.flush()


def _fit(
    storage: Path, local: bool, items: list[dict[str, Any]], workers: int, threads: int, gpus: bool, stop: str
) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    name = secrets.token_hex(4)
    common = {
        "train_loop_config": {"items": items, "threads": threads, "stop": stop},
        "scaling_config": ScalingConfig(
            num_workers=workers,
            use_gpu=gpus,
            resources_per_worker={"CPU": 1, **({"GPU": 1} if gpus else {})},
            placement_strategy="SPREAD",
        ),
        "run_config": RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    }
    if local:
        common["train_loop_config"]["store"] = str(storage / f"ranks-{name}")
        DataParallelTrainer(_worker, **common).fit()
    else:
        from ray.train.torch import TorchConfig, TorchTrainer

        config = TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=1800)
        TorchTrainer(_worker, torch_config=config, **common).fit()


def _worker(config: dict[str, Any]) -> None:
    """Do the runs of a group in one of its workers."""
    import ray.train
    import ray.train.torch
    import torch.distributed as dist

    from medvq.train.run import WorkItem
    from medvq.train.world import World, process_group
    from medvq.workers.group import work_through

    context = ray.train.get_context()
    size, device = context.get_world_size(), ray.train.torch.get_device()
    facts = {"rank": context.get_world_rank(), "size": size, "device": device, "threads": config["threads"]}
    with contextlib.ExitStack() as stack:
        if "store" in config:
            world = stack.enter_context(process_group(**facts, launcher="ray", store=Path(config["store"])))
        else:
            control = dist.new_group(backend="gloo") if size > 1 and device.type == "cuda" else None
            world = World(**facts, launcher="ray", control=control)
        work_through([WorkItem(**item) for item in config["items"]], world, Path(config["stop"]))


if __name__ == "__main__":
    # Ray workers import the functions of this module by name, so they must not belong to __main__.
    from medvq.workers.ray_server import main as serve

    serve()
