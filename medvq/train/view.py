"""What a run reads of its datasets: the training view, and one for every split that is measured."""

from __future__ import annotations

from collections.abc import Mapping

from medvq.config.data import Ingredient
from medvq.config.errors import UsageError
from medvq.runs.spec import RunSpec
from medvq.shards.dataset import Dataset
from medvq.shards.view import EVERY_SPLIT, TRAIN, Fit, Part, View


def training_view(spec: RunSpec, datasets: Mapping[str, Dataset]) -> View:
    """What the run trains on; `datasets` are named as in `spec.datasets`.

    Raises:
        UsageError: the images have different sizes and the study gives none.
    """
    asked, source = spec.config.data, spec.source
    return View(
        parts=parts_of(spec, datasets),
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


def held_out_view(spec: RunSpec, datasets: Mapping[str, Dataset], split: str) -> View:
    """A split as it is measured: whole, each image once."""
    return View(
        parts=parts_of(spec, datasets),
        splits=(split,),
        size=size_of(spec, datasets),
        channels=spec.source.channels,
    )


def parts_of(spec: RunSpec, datasets: Mapping[str, Dataset]) -> tuple[Part, ...]:
    """The datasets with their weights, in an order that does not depend on their names."""
    parts = []
    for name, origin in spec.source.origins(spec.config.data.use).items():
        if isinstance(origin, Ingredient):
            fit: Fit = "crop" if origin.crop else "resize"
            parts.append(Part(dataset=datasets[name], weight=origin.weight, fit=fit))
        else:
            parts.append(Part(dataset=datasets[name]))
    return tuple(sorted(parts, key=lambda p: (p.dataset.digest, p.weight, p.fit)))


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
