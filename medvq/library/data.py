"""Pack folders of images, and open packed datasets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medvq.config.locate import find
from medvq.config.recipe import Recipe, load_recipe
from medvq.config.recipe_text import parse_size
from medvq.errors import UsageError, suggest

if TYPE_CHECKING:
    from medvq.shards.dataset.dataset import Dataset
    from medvq.shards.pack.report import PackReport


def pack(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] | Recipe | None = None,
    size: int | tuple[int, int] | None = None,
    processes: int | None = None,
    on_bad: Literal["fail", "skip"] | None = None,
    on_leak: Literal["fail", "report"] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> PackReport:
    """Pack a folder of images into a dataset of WebDataset shards, as `medvq shard` does.

    The dataset appears whole or not at all. After an interruption, the same call continues the packing. The result
    does not depend on the number of processes.

    Args:
        source: folder of images, a MedMNIST `.npz` file, WebDataset `.tar` shards (a file, a folder or a glob), or what
            a class of your own reads, if the recipe names one.
        dest: folder to create. If it already holds this dataset, nothing is written.
        recipe: name or path of a recipe, or a `Recipe`. Without one, the layout is detected.
        size: side of the packed images in pixels, or (height, width); by default as the recipe says, else the images
            keep their own sizes.
        processes: processes that read images; by default one per core.
        on_bad: `fail` raises an error if an image cannot be trusted, `skip` leaves it out and records it; by default
            as the recipe says, else `fail`.
        on_leak: `fail` raises an error if two splits share a group or an image, `report` records it; by default as
            the recipe says, else `fail`.
        progress: called with (stage, done, total).

    Returns:
        A report with the `dataset` folder, its `digest`, the counts `seen`, `written` and `ignored`, the lists
        `skipped`, `notes` and `leaks`, and `splits`, the number of samples by split.

    Raises:
        NotFoundError: the source or the recipe does not exist.
        UsageError: the source holds no image, its layout is not recognized, or `dest` holds something else.
        DataError: images are bad or splits leak; nothing is written.
        MedvqError: `dest` cannot be written.

    Example:
        >>> import medvq
        >>> report = medvq.pack("data/smear", "datasets/smear24", recipe="smear", size=24)
        >>> report.written, report.splits
        (120, {'train': 84, 'val': 18, 'test': 18})
    """
    from medvq.shards.pack.pack import pack as pack_folder

    if recipe is None or isinstance(recipe, Recipe):
        settings = recipe or Recipe()
    else:
        settings = load_recipe(find("shards", os.fspath(recipe)))
    if size is not None:
        try:
            sides = parse_size("x".join(map(str, size)) if isinstance(size, tuple) else str(size))
        except ValueError as e:
            raise UsageError(str(e), where="size") from e
        settings = settings.model_copy(update={"size": sides})
    for option, value, known in (("on_bad", on_bad, ("fail", "skip")), ("on_leak", on_leak, ("fail", "report"))):
        if value is not None and value not in known:
            raise UsageError(f"unknown value {value!r}", where=option, hint=suggest(value, known))
    return pack_folder(
        Path(source),
        Path(dest),
        settings,
        processes=processes,
        on_bad=on_bad,
        on_leak=on_leak,
        progress=progress,
    )


def open_dataset(dest: str | os.PathLike[str]) -> Dataset:
    """Open a packed dataset for reading.

    Only the manifest is read now; the index and the shards are read when they are needed.

    Args:
        dest: folder of the dataset.

    Returns:
        The dataset. `len()` is its number of samples; `name`, `digest`, `classes`, `splits` and `manifest` describe
        it; `column(name)` is a column of its index, and `read(row)` the encoded bytes of one image.
        `medvq.Loader.open` reads it in batches, `webdataset(split)` is a pipeline of the webdataset library.

    Raises:
        NotFoundError: there is no dataset.
        DataError: its manifest is damaged.
        MissingError: it was written by a newer version of medvq.

    Example:
        >>> import medvq
        >>> dataset = medvq.open_dataset("datasets/smear")
        >>> len(dataset), dataset.splits
        (120, ('test', 'train', 'val'))
        >>> dataset.classes
        ('basophil', 'eosinophil', 'lymphocyte', 'monocyte', 'neutrophil')
        >>> dataset.manifest.splits["train"].samples
        84
        >>> sample = next(iter(dataset.webdataset("train", decode="rgb8")))
        >>> sample["png"].shape, type(sample["cls"])
        ((32, 32, 3), <class 'int'>)
    """
    from medvq.shards.dataset.dataset import Dataset

    return Dataset.open(os.fspath(dest))
