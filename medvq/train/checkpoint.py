"""Checkpoints: folders that are written atomically, verified when read, and contain only safetensors and JSON.

checkpoints/step-00000120/   model.safetensors, optimizer.safetensors, state.json, sums.json (sha256 of the other files)
checkpoints/best-00000080/   model.safetensors, state.json, sums.json
checkpoints/latest.json      {"last": NAME, "best": NAME}, replaced last
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from medvq.errors import DataError, NotFoundError
from medvq.files import read_json, remove_folder, replace_folder, write_json
from medvq.runs.owner import Ownership

log = logging.getLogger(__name__)
KEEP = 2
"""Number of resumable checkpoints to keep: the last one, and the one before in case the last is damaged."""


@dataclass
class Position:
    """Where a run is: what a resumed run needs besides tensors."""

    epoch: int = 0
    """Number of finished epochs."""
    batch: int = 0
    """Finished steps of the current epoch."""
    step: int = 0
    """Finished steps in total."""
    meter: dict[str, Any] = field(default_factory=dict)
    """Sums of the current epoch's losses, from `LossSync.state`."""
    best: dict[str, Any] | None = None
    """`{"epoch": …, "value": …}` of the best validation metric so far."""

    def record(self) -> dict[str, Any]:
        """Return the position as JSON data."""
        return dict(vars(self))


def save(
    folder: Path,
    owner: Ownership,
    position: Position,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
) -> str:
    """Write a checkpoint from which training can go on; return its name."""
    name = f"step-{position.step:08d}"
    tensors, scalars = optimizer_state(model, optimizer)
    _write(
        folder,
        name,
        owner,
        {"model": model_state(model), "optimizer": tensors},
        {**facts, "position": position.record(), "optimizer": scalars},
    )
    _point(folder, owner, last=name)
    for old in sorted(p.name for p in folder.glob("step-*"))[:-KEEP]:
        remove_folder(folder / old)
    return name


def save_best(folder: Path, owner: Ownership, position: Position, model: torch.nn.Module, facts: dict[str, Any]) -> str:
    """Write the weights of the best epoch so far and remove older ones; return the checkpoint's name."""
    name = f"best-{position.step:08d}"
    _write(folder, name, owner, {"model": model_state(model)}, {**facts, "position": position.record()})
    _point(folder, owner, best=name)
    for old in folder.glob("best-*"):
        if old.name != name:
            remove_folder(old)
    return name


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint that a run can go on from; None if there is none.

    Skip, with a warning, checkpoints that are damaged and those whose best weights so far are missing or damaged: the
    run would end with other weights. Best weights from later epochs do not matter, because they are made again.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        problem = damage(path) or _lost_best(path)
        if problem is None:
            return path
        log.warning("checkpoint %s is damaged (%s); using the one before it", path.name, problem)
    return None


def find(folder: Path, which: str) -> Path:
    """Return the checkpoint `best` or `last` of a run.

    Raises:
        NotFoundError: the run has no such checkpoint.
        DataError: the checkpoint is damaged.
    """
    name = (read_json(folder / "latest.json") or {}).get(which)
    if name is None:
        raise NotFoundError(f"there is no {which} checkpoint", where=str(folder))
    problem = damage(folder / name)
    if problem:
        raise DataError(
            f"this checkpoint is damaged: {problem}",
            where=str(folder / name),
            hint="`medvq retry` makes it again; if the run is done, remove its result.json first",
        )
    return folder / str(name)


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint's files; None if they are as they were written."""
    sums = read_json(path / "sums.json")
    if not isinstance(sums, dict):
        return "sums.json is missing or torn"
    for name, expected in sums.items():
        try:
            actual = _sha256(path / name)
        except OSError:
            return f"{name} is missing"
        if actual != expected:
            return f"{name} has changed"
    return None


def _lost_best(path: Path) -> str | None:
    """Return what is wrong with the best weights that existed when a checkpoint was written; None if nothing."""
    if read_state(path)["position"]["best"] is None:
        return None
    problem: str | None = "the best weights of that time are missing"
    for best in path.parent.glob("best-*"):
        later = best.name.removeprefix("best-") > path.name.removeprefix("step-")
        damaged = None if later else damage(best)
        if damaged is None:
            return None
        problem = f"{best.name}: {damaged}"
    return problem


def read_state(path: Path) -> dict[str, Any]:
    """Return the JSON part of a checkpoint."""
    state: dict[str, Any] = json.loads((path / "state.json").read_bytes())
    return state


def load_model(path: Path, model: torch.nn.Module) -> None:
    """Load a checkpoint's weights and buffers into the model. All names must match."""
    model.load_state_dict(load_file(path / "model.safetensors"))


def load_optimizer(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint's optimizer state, such as Adam's moments, into the optimizer."""
    tensors, scalars = load_file(path / "optimizer.safetensors"), read_state(path)["optimizer"]
    states: dict[int, dict[str, Any]] = {}
    parameters = dict(model.named_parameters())
    for index, name in enumerate(_names(model, optimizer)):
        state = {k.rpartition("|")[2]: v for k, v in tensors.items() if k.rpartition("|")[0] == name}
        state |= {k.rpartition("|")[2]: v for k, v in scalars.items() if k.rpartition("|")[0] == name}
        if state:
            # Fused kernels read weights and moments together, so both need the same memory layout.
            like = parameters[name]
            states[index] = {
                k: torch.empty_like(like, dtype=v.dtype).copy_(v) if torch.is_tensor(v) and v.shape == like.shape else v
                for k, v in state.items()
            }
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def model_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return weights and persistent buffers, contiguous on the CPU."""
    return {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}


def optimizer_state(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the optimizer's tensors and its plain values, each named `parameter|key`."""
    names = _names(model, optimizer)
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{names[index]}|{key}"] = value.detach().cpu().contiguous()
            else:
                scalars[f"{names[index]}|{key}"] = value
    return tensors, scalars


def _names(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Return the names of the optimizer's parameters in the optimizer's order."""
    by_id = {id(p): n for n, p in model.named_parameters()}
    return [by_id[id(p)] for group in optimizer.param_groups for p in group["params"]]


def _write(
    folder: Path, name: str, owner: Ownership, tensors: dict[str, dict[str, torch.Tensor]], state: dict[str, Any]
) -> None:
    beside = folder / f".{name}.{owner.attempt}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        for kind, values in tensors.items():
            _save_tensors(values, beside / f"{kind}.safetensors")
        write_json(beside / "state.json", state)
        write_json(beside / "sums.json", {p.name: _sha256(p) for p in sorted(beside.iterdir())})
        for path in beside.iterdir():
            _sync(path)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    with owner.writing():
        replace_folder(beside, folder / name)
        _sync(folder)
        for leftover in folder.glob(".*.tmp"):
            remove_folder(leftover)


def _save_tensors(values: dict[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file. The library gives it mode 0600; here it gets the mode of any new file (umask).

    Raises:
        OSError: the disk is full. The library raises a `SafetensorError` for this.
    """
    try:
        save_file(values, path)
    except SafetensorError as e:
        full = os.strerror(errno.ENOSPC)
        raise OSError(errno.ENOSPC, full, str(path)) if full in str(e) else e from e
    new = path.with_suffix(".mode")
    new.touch()
    path.chmod(new.stat().st_mode & 0o777)
    new.unlink()


def _point(folder: Path, owner: Ownership, **names: str) -> None:
    with owner.writing():
        write_json(folder / "latest.json", {**(read_json(folder / "latest.json") or {}), **names})


def _sha256(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
