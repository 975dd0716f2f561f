"""Open a training session from `run.json`: check the data, build the model, load weights and position."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from medvq.config.plugins import prepare
from medvq.config.settings import model_settings
from medvq.config.task_info import find_task
from medvq.errors import DataError, UsageError
from medvq.keys import draw_key
from medvq.models.build import build
from medvq.models.dropout import convert_keyed_dropout
from medvq.models.norm import convert_global_batchnorm
from medvq.registry import TASKS
from medvq.runs.folder import RunFolder
from medvq.runs.spec import RunSpec
from medvq.shards.dataset.cache import stage
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.loader import Loader
from medvq.shards.load.view import ViewPart
from medvq.train import checkpoint
from medvq.train.optim import make_optimizer
from medvq.train.performance import arrange, fused
from medvq.train.pixels import Pixels
from medvq.train.session import Session
from medvq.train.tasks.base import Task, TaskContext
from medvq.train.trained import open_needs
from medvq.train.view import held_out_view, statistics_of, training_view
from medvq.train.world import World

log = logging.getLogger(__name__)


def open_session(spec: RunSpec, folder: RunFolder, world: World, stop_requested: Callable[[], bool]) -> Session:
    """Open a training session, at the position of the newest checkpoint if there is one.

    Args:
        spec: the run, as in `run.json`.
        folder: the run's folder.
        world: ranks and device.
        stop_requested: returns whether the run should stop.

    Raises:
        DataError: a dataset is not the one that the run was planned with, or the initial weights do not fit the model.
        UsageError: the task does not support the model.
    """
    prepare(spec.code)
    torch.manual_seed(draw_key(spec.config.train.seed, "weights"))
    datasets = open_datasets(spec)
    task_info = find_task(spec.config.task)
    objective = task_info.objective.model_validate(spec.objective)
    views = {split: held_out_view(spec, datasets, split, objective.reads_masks) for split in spec.source.held_out}
    views["train"] = training_view(spec, datasets)
    size, channels = views["train"].size, views["train"].channels
    classes = views["train"].classes if task_info.labels else ()
    settings = model_settings(spec.model["name"]).model_validate(spec.model)
    switched_on = spec.config.as_published
    heads = len(classes) if task_info.head else 0
    model = build(settings, input_shape=(channels, *size), classes=heads, as_published=switched_on)
    if "init" in spec.needs:
        need = spec.needs["init"]
        load_start(checkpoint.find(folder.path.parent / need.run / "checkpoints", need.checkpoint), model)
    if spec.trained_code:
        convert_global_batchnorm(model)
        convert_keyed_dropout(model)
    model = arrange(model.to(world.device), spec.config.resources)
    context = TaskContext(
        objective=objective,
        pixels=pixels_of(spec, views["train"].parts, world.device),
        classes=tuple(classes),
        as_published=frozenset(switched_on),
        needs=open_needs(spec, folder.path.parent, world.device),
    )
    task = make_task(spec.config.task, model, context)
    optimizer = make_optimizer(model, spec.config.train, fused(spec.config.resources, world.device))
    position = checkpoint.Position()
    newest = world.broadcast(checkpoint.newest(folder.checkpoints) if world.is_main else None)
    if newest is not None:
        checkpoint.load_model(newest, model)
        checkpoint.load_optimizer(newest, model, optimizer)
        position = checkpoint.Position(**checkpoint.read_state(newest)["position"])
        log.info("continuing from %s", newest.name)
    batch, processes = spec.config.train.batch_size, spec.config.resources.loader_processes
    loaders = {
        split: Loader(view, batch, spec.config.train.seed, world.rank, world.size, processes if split == "train" else 0)
        for split, view in views.items()
    }
    return Session(
        spec=spec,
        world=world,
        task=task,
        optimizer=optimizer,
        loaders=loaders,
        position=position,
        stop_requested=stop_requested,
    )


def open_datasets(spec: RunSpec) -> dict[str, Dataset]:
    """Open the datasets that the run was planned with, by name.

    Raises:
        DataError: a dataset has changed since then.
    """
    cache = spec.config.resources.cache
    found = {}
    for name, ref in spec.datasets.items():
        dataset = Dataset.open(stage(Path(ref.path), Path(cache)) if cache else ref.path)
        if dataset.digest != ref.digest:
            raise DataError(
                f"the dataset has changed: digest {dataset.digest[:12]}, planned with {ref.digest[:12]}",
                where=ref.path,
                hint="start the study again to plan with the current dataset",
            )
        found[name] = dataset
    return found


def make_task(name: str, model: torch.nn.Module, context: TaskContext) -> Task:
    """Create a task.

    Args:
        name: name of a built-in task, or import path of a user's own.
        model: the model to train.
        context: what the task uses besides the model.

    Raises:
        UsageError: there is no such task, it is not a `Task`, or it does not support the model.
    """
    kind = TASKS.find(name)
    if not issubclass(kind, Task):
        raise UsageError(f"{name} is not a task", hint="derive it from medvq.train.tasks.base.Task")
    made: Task = kind(model, context)
    return made


def pixels_of(spec: RunSpec, parts: Sequence[ViewPart], device: torch.device) -> Pixels:
    """Return how pixels are shifted and scaled for the model.

    Pixels are scaled to the range of the model's last activation, since for example a sigmoid cannot reproduce
    negative values. If that range is not limited, they are normalised with mean and standard deviation of each
    dataset, or scaled to [0, 1] without `data.normalize`.
    """
    channels = spec.source.channels
    output = model_settings(spec.model["name"]).model_validate(spec.model).pixel_range
    if output == "symmetric":
        return Pixels([([0.5] * channels, [0.5] * channels)], device)
    if output == "unit" or not spec.config.data.normalize:
        return Pixels([([0.0] * channels, [1.0] * channels)], device)
    return Pixels([statistics_of(part.dataset, channels) for part in parts], device)


def load_start(path: Path, model: torch.nn.Module) -> None:
    """Load weights of another run. Top-level modules that only one of the two models has, such as a head, are skipped.

    Args:
        path: folder of the checkpoint.
        model: the model; it is changed in place.

    Raises:
        DataError: a module that both models have differs in its tensors, or they have no module in common.
    """
    theirs, ours = load_file(path / "model.safetensors"), model.state_dict()
    children = {n.split(".")[0] for n in theirs} & {n.split(".")[0] for n in ours}
    shared = {n for n in [*theirs, *ours] if n.split(".")[0] in children}
    wrong = [n for n in sorted(shared) if n not in theirs or n not in ours or theirs[n].shape != ours[n].shape]
    if wrong or not shared:
        raise DataError(
            f"the weights do not fit this model: {', '.join(wrong[:3]) or 'no module in common'}",
            where=str(path),
            hint="both jobs must have the same model and image size",
        )
    fresh = sorted({n.split(".")[0] for n in ours} - children)
    log.info("weights from %s%s", path.parent.parent.name, f"; new: {', '.join(fresh)}" if fresh else "")
    model.load_state_dict({n: theirs[n] for n in shared}, strict=False)
