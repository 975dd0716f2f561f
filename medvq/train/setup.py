"""From run.json to a session: the data opened and checked, the model built, weights and position loaded."""

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
    """Everything that the loop needs, at the position of the newest checkpoint.

    Raises:
        DataError: the dataset is not the one that the run was planned for, or weights do not fit.
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
        log.info("going on from %s", newest.name)
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
    """The datasets that the run was planned for, and no others.

    Raises:
        DataError: one has changed since.
    """
    cache = spec.config.resources.cache
    found = {}
    for name, ref in spec.datasets.items():
        dataset = Dataset.open(stage(Path(ref.path), Path(cache)) if cache else ref.path)
        if dataset.digest != ref.digest:
            raise DataError(
                f"the dataset has changed: digest {dataset.digest[:12]}, planned with {ref.digest[:12]}",
                where=ref.path,
                hint="start the study again to plan with the dataset as it is now",
            )
        found[name] = dataset
    return found


def make_task(name: str, model: torch.nn.Module, context: TaskContext) -> Task:
    """Return the task `name`, a built-in or the import path of a user's own, with its model.

    Raises:
        UsageError: there is no such task, or it cannot use the model.
    """
    kind = TASKS.find(name)
    if not issubclass(kind, Task):
        raise UsageError(f"{name} is no task", hint="derive it from medvq.train.tasks.base.Task")
    made: Task = kind(model, context)
    return made


def pixels_of(spec: RunSpec, parts: Sequence[ViewPart], device: torch.device) -> Pixels:
    """Return how pixels are shifted and scaled: to the model's pixel range, else by each dataset's statistics.

    A model that ends in a sigmoid could never reproduce pixels of mean 0, so its last activation decides.
    """
    channels = spec.source.channels
    output = model_settings(spec.model["name"]).model_validate(spec.model).pixel_range
    if output == "symmetric":
        return Pixels([([0.5] * channels, [0.5] * channels)], device)
    if output == "unit" or not spec.config.data.normalize:
        return Pixels([([0.0] * channels, [1.0] * channels)], device)
    return Pixels([statistics_of(part.dataset, channels) for part in parts], device)


def load_start(path: Path, model: torch.nn.Module) -> None:
    """Start from another run's weights. A part that only one of the two has, such as a head, is left as it is.

    Raises:
        DataError: a part that both have differs.
    """
    theirs, ours = load_file(path / "model.safetensors"), model.state_dict()
    children = {n.split(".")[0] for n in theirs} & {n.split(".")[0] for n in ours}
    shared = {n for n in [*theirs, *ours] if n.split(".")[0] in children}
    wrong = [n for n in sorted(shared) if n not in theirs or n not in ours or theirs[n].shape != ours[n].shape]
    if wrong or not shared:
        raise DataError(
            f"its weights do not fit this model: {', '.join(wrong[:3]) or 'nothing in common'}",
            where=str(path),
            hint="both jobs must have the same model and image size",
        )
    fresh = sorted({n.split(".")[0] for n in ours} - children)
    log.info("weights from %s%s", path.parent.parent.name, f"; new: {', '.join(fresh)}" if fresh else "")
    model.load_state_dict({n: theirs[n] for n in shared}, strict=False)
