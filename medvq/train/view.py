"""What a run reads of its datasets: the training view, and one for every split that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from medvq.config.data import Ingredient
from medvq.errors import UsageError
from medvq.runs.spec import RunSpec
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.view import EVERY_SPLIT, TRAIN, Fit, View, ViewPart


def training_view(spec: RunSpec, datasets: Mapping[str, Dataset]) -> View:
    """What the run trains on; `datasets` are named as in `spec.datasets`.

    Raises:
        UsageError: the images have different sizes and the study gives none.
    """
    asked, source = spec.config.data, spec.source
    return View(
        parts=tuple(_turned(part, spec) for part in parts_of(spec, datasets)),
        splits=EVERY_SPLIT if source.splits == "all" else (TRAIN,),
        subset=asked.subset,
        draw=asked.draw,
        balance=asked.balance,
        limit=asked.limit,
        draws=source.draws,
        size=size_of(spec, datasets),
        channels=source.channels,
        masks=asked.masks,
        mask_copies=asked.mask_copies,
    )


def held_out_view(spec: RunSpec, datasets: Mapping[str, Dataset], split: str, masks: bool = False) -> View:
    """A split as it is measured: whole, each image once, with its masks where they are asked for."""
    return View(
        parts=parts_of(spec, datasets),
        splits=(split,),
        size=size_of(spec, datasets),
        channels=spec.source.channels,
        masks=masks,
    )


def parts_of(spec: RunSpec, datasets: Mapping[str, Dataset]) -> tuple[ViewPart, ...]:
    """The datasets with their weights, in an order that does not depend on their names."""
    parts = []
    for name, origin in spec.source.origins(spec.config.data.use).items():
        if isinstance(origin, Ingredient):
            fit: Fit = "crop" if origin.crop else "resize"
            parts.append(ViewPart(dataset=datasets[name], weight=origin.weight, fit=fit))
        else:
            parts.append(ViewPart(dataset=datasets[name]))
    return tuple(sorted(parts, key=lambda p: (p.dataset.digest, p.weight, p.fit)))


def _turned(part: ViewPart, spec: RunSpec) -> ViewPart:
    """Return a part whose windows are rotated before they are cut, so that they have no empty corners."""
    augment, channels = spec.config.data.augment, spec.source.channels
    if part.fit != "crop" or not augment.rotate:
        return part
    mean = statistics_of(part.dataset, channels)[0] if augment.fill == "mean" else [0.0] * channels
    return replace(part, turn=augment.rotate, corner=tuple(round(255 * m) for m in mean))


def statistics_of(dataset: Dataset, channels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of a dataset, pixels in [0, 1].

    Raises:
        UsageError: it has those of another number of channels.
    """
    found = dataset.manifest.statistics
    mean, std = list(found.mean), [max(s, 1e-3) for s in found.std]
    if len(mean) == 1:
        mean, std = mean * channels, std * channels
    if len(mean) != channels:
        raise UsageError(
            f"the dataset has statistics of {len(mean)} channels, and {channels} are read",
            where=str(dataset.path),
            hint="pack it in grey, or set data.normalize to false",
        )
    return mean, std


def size_of(spec: RunSpec, datasets: Mapping[str, Dataset]) -> tuple[int, int]:
    """(H, W) in pixels of what the network reads."""
    if spec.source.shape:
        return spec.source.shape
    (dataset,) = datasets.values()  # a mixture always has a shape
    image = dataset.manifest.image
    if not (image.width and image.height):
        raise UsageError(
            "the images have different sizes", where=str(dataset.path), hint="give `size` in the study's data"
        )
    return image.height, image.width
