"""Choose what a run reads of its datasets: the training view, and one view for every split that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from medvq.config.data import Ingredient
from medvq.errors import UsageError
from medvq.runs.spec import RunSpec
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.view import EVERY_SPLIT, TRAIN, Fit, View, ViewPart


def training_view(spec: RunSpec, datasets: Mapping[str, Dataset]) -> View:
    """Return what the run trains on; `datasets` have the names of `spec.datasets`.

    Raises:
        UsageError: the images have different sizes and the study does not give one.
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
    """Return a split as it is measured: all of it, each image once, with masks if `masks` is set."""
    return View(
        parts=parts_of(spec, datasets),
        splits=(split,),
        size=size_of(spec, datasets),
        channels=spec.source.channels,
        masks=masks,
    )


def parts_of(spec: RunSpec, datasets: Mapping[str, Dataset]) -> tuple[ViewPart, ...]:
    """Return the datasets with their weights, in an order that does not depend on their names."""
    parts = []
    for name, origin in spec.source.origins(spec.config.data.use).items():
        if isinstance(origin, Ingredient):
            fit: Fit = "crop" if origin.crop else "resize"
            parts.append(ViewPart(dataset=datasets[name], weight=origin.weight, fit=fit))
        else:
            parts.append(ViewPart(dataset=datasets[name]))
    return tuple(sorted(parts, key=lambda p: (p.dataset.digest, p.weight, p.fit)))


def _turned(part: ViewPart, spec: RunSpec) -> ViewPart:
    """Return a part with the rotation that the loader does before it cuts windows; other parts are returned unchanged.

    The published stacked VQ-VAE rotates before it cuts, see jobs/PUBLISHED.md, svqvae-wbc.
    """
    augment, channels = spec.config.data.augment, spec.source.channels
    if part.fit != "crop" or not augment.rotate:
        return part
    mean = statistics_of(part.dataset, channels)[0] if augment.fill == "mean" else [0.0] * channels
    return replace(part, turn=augment.rotate, corner=tuple(round(255 * m) for m in mean))


def statistics_of(dataset: Dataset, channels: int) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of each channel of a dataset, for pixels in [0, 1].

    Raises:
        UsageError: the dataset's statistics have another number of channels.
    """
    found = dataset.manifest.statistics
    mean, std = list(found.mean), [max(s, 1e-3) for s in found.std]
    if len(mean) == 1:
        mean, std = mean * channels, std * channels
    if len(mean) != channels:
        raise UsageError(
            f"the dataset has statistics of {len(mean)} channels, but {channels} are read",
            where=str(dataset.path),
            hint="pack the dataset in grey, or set data.normalize to false",
        )
    return mean, std


def size_of(spec: RunSpec, datasets: Mapping[str, Dataset]) -> tuple[int, int]:
    """Return the height and width in pixels of the images that the network reads.

    Raises:
        UsageError: the images have different sizes and the study does not give one.
    """
    if spec.source.shape:
        return spec.source.shape
    (dataset,) = datasets.values()  # a mixture always has a shape
    image = dataset.manifest.image
    if not (image.width and image.height):
        raise UsageError(
            "the images have different sizes", where=str(dataset.path), hint="give `size` in the study's data"
        )
    return image.height, image.width
