"""Ray Train worker groups, and the one Ray that a `medvq run` starts for them."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from medvq.runs.process import Process
from medvq.train.group import Group, GroupSpec, work_through
from medvq.train.run import WorkItem
from medvq.train.world import World

PREFIX = "medvq-"
ENVIRONMENT = {
    # The controller polls its workers; a fast poll makes the end of a group visible at once.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


class LocalRay:
    """A Ray on this machine alone, listening on loopback, with a token and a folder of its own.

    It is started by the first group that needs it and serves all groups of this process.
    """

    def __init__(self, workers: int, gpus: int) -> None:
        self.workers, self.gpus = workers, gpus
        self.folder: Path | None = None

    def __enter__(self) -> LocalRay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.folder is not None:
            import ray

            ray.shutdown()
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, items: Sequence[WorkItem], spec: GroupSpec, stop_file: Path) -> Group:
        """Do the runs in a group of Ray Train workers."""
        return Group(lambda: self._fit(items, spec, stop_file))

    def _ensure(self) -> Path:
        if self.folder is None:
            sweep()
            process = Process.current()
            self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{process.pid}-{process.start}-"))
            token = self.folder / "token"
            token.touch(mode=0o600)
            token.write_text(secrets.token_hex(32))
            os.environ.update(ENVIRONMENT, RAY_AUTH_TOKEN_PATH=str(token))
            os.environ.pop("RAY_ADDRESS", None)
            import ray

            ray.init(
                address="local",
                num_cpus=self.workers,
                num_gpus=self.gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=10**8,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(self.folder),
            )
        return self.folder

    def _fit(self, items: Sequence[WorkItem], spec: GroupSpec, stop_file: Path) -> None:
        folder = self._ensure()
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        logging.getLogger("ray.train").setLevel(logging.ERROR)
        TorchTrainer(
            _worker,
            train_loop_config={"items": list(items), "threads": spec.threads, "stop": str(stop_file)},
            torch_config=TorchConfig(backend="nccl" if spec.gpus else "gloo", timeout_s=1800),
            scaling_config=ScalingConfig(
                num_workers=spec.workers,
                use_gpu=spec.gpus,
                resources_per_worker={"CPU": 1, **({"GPU": 1} if spec.gpus else {})},
            ),
            run_config=RunConfig(
                name=secrets.token_hex(4),
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=0),
            ),
        ).fit()


def _worker(config: dict[str, Any]) -> None:
    """What every worker of a group does."""
    import ray.train
    import ray.train.torch
    import torch.distributed as dist

    context = ray.train.get_context()
    size, device = context.get_world_size(), ray.train.torch.get_device()
    world = World(
        rank=context.get_world_rank(),
        size=size,
        device=device,
        threads=config["threads"],
        launcher="ray",
        control=dist.new_group(backend="gloo") if size > 1 and device.type == "cuda" else None,
    )
    work_through(config["items"], world, Path(config["stop"]))


def sweep() -> None:
    """Remove the folders of processes that were killed before they could."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*-*"):
        _, pid, start, *_ = path.name.split("-")
        try:
            gone = path.stat().st_uid == os.getuid() and not Process.is_running(int(pid), start)
        except (OSError, ValueError):
            continue
        if gone:
            shutil.rmtree(path, ignore_errors=True)
