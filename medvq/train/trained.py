"""Open the trained model of a run from the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medvq.config.plugins import prepare
from medvq.config.settings import ModelSettings, model_settings
from medvq.config.task_info import find_task
from medvq.errors import DataError, UsageError
from medvq.files import read_json
from medvq.models.build import build
from medvq.runs.folder import RunFolder
from medvq.runs.spec import RunSpec, read_spec
from medvq.train import checkpoint
from medvq.train.pixels import Pixels


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A trained model and everything needed to use it. The model is frozen and stays in evaluation mode."""

    folder: RunFolder
    """The run's folder."""
    spec: RunSpec
    """Specification of the run, as in `run.json`."""
    result: Mapping[str, Any]
    """Content of `result.json`; empty if the run is not done."""
    model: nn.Module
    """The model with its weights."""
    settings: ModelSettings
    """Settings of the model."""
    pixels: Pixels
    """Converts between stored pixels and the model's inputs."""
    classes: tuple[str, ...]
    """Names of the classes; empty if the model has no classifier head."""
    input_shape: tuple[int, int, int]
    """(C, H, W) of the model's inputs."""

    @property
    def metrics(self) -> dict[str, float]:
        """Final metrics by name, such as `test/accuracy`; empty if the run is not done."""
        return dict(self.result.get("metrics", {}))

    def normalize(self, images: Tensor, part: int = 0) -> Tensor:
        """Scale images for this model.

        Args:
            images: (B, C, H, W), in [0, 1] if floating point, in [0, 255] if uint8.
            part: for a run on a mixture, the index of the dataset whose statistics are used.

        Returns:
            Inputs of `model`, (B, C, H, W) float32.
        """
        values = 255 * images if images.is_floating_point() else images
        return self.pixels.normalize(values, torch.full((len(images),), part))

    def prepare(self, images: NDArray[np.uint8]) -> Tensor:
        """Scale images as other libraries hold them, for example Pillow or matplotlib.

        Args:
            images: (B, H, W, C) uint8 in [0, 255], of the model's `input_shape`.

        Returns:
            (B, C, H, W) float32 on the model's device.

        Raises:
            UsageError: the images have another shape or type.
        """
        channels, height, width = self.input_shape
        if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels):
            raise UsageError(
                f"the model takes uint8 images (B, {height}, {width}, {channels}), not {images.dtype} {images.shape}",
                hint="resize them first",
            )
        return self.normalize(torch.from_numpy(images).movedim(-1, 1).to(self.pixels.device))

    def unit(self, x: Tensor, part: int = 0) -> Tensor:
        """Scale images x (B, C, H, W) from the model's units to [0, 1] and clip them. `part` is as in `normalize`."""
        return self.pixels.unit(x, torch.full((len(x),), part))


class Needs(Mapping[str, TrainedRun]):
    """Runs that a run needs, by role. Each is opened at first access."""

    def __init__(self, openers: Mapping[str, Callable[[], TrainedRun]]) -> None:
        self._openers, self._opened = dict(openers), dict[str, TrainedRun]()

    def __getitem__(self, role: str) -> TrainedRun:
        if role not in self._opened:
            self._opened[role] = self._openers[role]()
        return self._opened[role]

    def __contains__(self, role: object) -> bool:
        return role in self._openers

    def __iter__(self) -> Iterator[str]:
        return iter(self._openers)

    def __len__(self) -> int:
        return len(self._openers)


def open_needs(spec: RunSpec, study_folder: Path, device: torch.device) -> Needs:
    """Return the runs that `spec` needs, by role.

    The role `init` is left out: a run starts from its weights and does not use the run afterwards.

    Args:
        spec: the run that needs them.
        study_folder: folder of the study, which holds the folders of its runs.
        device: device of the models.
    """

    def opener(run: str, which: str) -> Callable[[], TrainedRun]:
        return lambda: open_trained(RunFolder(study_folder / run), which, device)

    roles = {role: need for role, need in spec.needs.items() if role != "init"}
    return Needs({role: opener(need.run, need.checkpoint) for role, need in roles.items()})


def open_trained(folder: RunFolder, which: str = "best", device: torch.device | str = "cpu") -> TrainedRun:
    """Open the model of a run.

    Args:
        folder: the run's folder.
        which: the checkpoint, `best` or `last`.
        device: device of the model.

    Raises:
        NotFoundError: there is no such run or checkpoint.
        DataError: the checkpoint is damaged, or the source code of a user's own model has changed since the run.
    """
    spec = read_spec(folder)
    prepare(spec.trained_code)
    path = checkpoint.find(folder.checkpoints, which)
    facts = checkpoint.read_state(path)
    device = torch.device(device)
    settings = model_settings(facts["model"]["name"]).model_validate(facts["model"])
    shape, classes = _input_shape(facts, spec, folder), tuple(facts["classes"])
    heads = len(classes) if find_task(spec.config.task).head else 0
    model = build(settings, input_shape=shape, classes=heads, as_published=spec.config.as_published)
    checkpoint.load_model(path, model)
    return TrainedRun(
        folder=folder,
        spec=spec,
        result=read_json(folder.result) or {},
        model=freeze(model.to(device)),
        settings=settings,
        pixels=Pixels.from_metadata(facts["pixels"], device),
        classes=classes,
        input_shape=shape,
    )


def freeze(model: nn.Module) -> nn.Module:
    """Freeze a model in place: no parameter requires gradients, and `train()` does not change its mode."""
    model.requires_grad_(False).eval()
    for module in model.modules():
        cast("Any", module).train = lambda mode=True, module=module: module
    return model


def _input_shape(facts: Mapping[str, Any], spec: RunSpec, folder: RunFolder) -> tuple[int, int, int]:
    """Return (C, H, W) of the images that the run was trained on.

    Raises:
        DataError: the run does not record it.
    """
    if "input_shape" in facts:
        channels, height, width = facts["input_shape"]
        return channels, height, width
    if spec.source.shape is None:  # medvq 0.1 did not record it
        raise DataError("the run does not record the image size that it was trained on", where=str(folder.path))
    return (spec.source.channels, *spec.source.shape)
