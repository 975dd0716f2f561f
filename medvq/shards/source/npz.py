"""MedMNIST files: one `.npz` with `train_images`, `train_labels`, `val_images`, ... as a source of samples."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medvq.config.recipe import Recipe
from medvq.errors import DataError, UsageError
from medvq.shards.image.arrays import npy_bytes
from medvq.shards.image.bad import BadImage
from medvq.shards.source.samples import Arranged, SampleReader, finish_splits
from medvq.shards.source.scan import Left
from medvq.shards.source.tables import read_table


@dataclass(frozen=True)
class NpzOrigin:
    """Rows of the arrays of an `.npz`; a row is read as the bytes of an `.npy` file."""

    root: str
    """The `.npz`."""
    stamp: str
    """Its size and time of change."""
    arrays: str = ""
    """Where the arrays were unpacked to, so that workers map them instead of each holding them."""

    def read(self, path: str, size: int) -> bytes:
        """The row `split/row`.

        Raises:
            BadImage: it cannot be read.
        """
        split, _, row = path.partition("/")
        try:
            image = _array(self, f"{split}_images")[int(row)]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
            raise BadImage(f"cannot be read: {e}") from e
        return npy_bytes(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)

    def fingerprint(self, path: str) -> str:
        """sha256 of the row."""
        return hashlib.sha256(self.read(path, 0)).hexdigest()

    def unpacked(self, folder: Path) -> NpzOrigin:
        """The same rows, from arrays unpacked into `folder` (those that are there already are used).

        Raises:
            OSError: the folder cannot be written.
            DataError: the file is damaged.
        """
        with _opened(self.root) as archive:
            for name in archive.namelist():
                target = folder / Path(name).name
                if not name.endswith("_images.npy") or target.exists():
                    continue
                temporary = target.with_suffix(".tmp")
                try:
                    with archive.open(name) as read, temporary.open("wb") as write:
                        shutil.copyfileobj(read, write, 1 << 20)
                except (zipfile.BadZipFile, zlib.error, EOFError) as e:
                    raise DataError(f"the array {name} is damaged: {e}", where=self.root) from e
                os.replace(temporary, target)
        return NpzOrigin(self.root, self.stamp, str(folder))


@lru_cache(maxsize=8)
def _array(origin: NpzOrigin, name: str) -> npt.NDArray[Any]:
    if origin.arrays:
        path = os.path.join(origin.arrays, f"{name}.npy")
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    with np.load(origin.root, allow_pickle=False) as archive:
        whole: npt.NDArray[Any] = archive[name]
        return whole


def forget_arrays() -> None:
    """Let go of arrays that are held for further rows; a mapped file that was removed still takes room until then."""
    _array.cache_clear()


def _opened(path: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as e:
        raise DataError(f"not an .npz file: {e}", where=path) from e


def arrange_npz(source: Path, recipe: Recipe) -> Arranged:
    """The samples of a MedMNIST file, without reading its images.

    Raises:
        UsageError: it holds no `*_images`, volumes instead of images, or several classes per image, or as of
            `finish_splits`.
        DataError: it is damaged.
    """
    shapes = _shapes(source)
    splits = [n.removesuffix("_images") for n in shapes if n.endswith("_images")]
    if not splits:
        raise UsageError(
            "no array is called *_images", where=str(source), hint=f"it holds {', '.join(shapes) or 'none'}"
        )
    reader = SampleReader(recipe, [read_table(t, source.parent) for t in recipe.tables], overrule=True)
    names, out = recipe.class_names(), Arranged(notes=[])
    for split in splits:
        shape = shapes[f"{split}_images"]
        if 0 in shape[1:] or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
            raise UsageError(
                f"{split}_images has shape {shape}; images are (N, H, W), (N, H, W, 1) or (N, H, W, 3)",
                where=str(source),
            )
        named = f"{split}_labels"
        labels = _labels(source, named, shapes[named], shape[0]) if named in shapes else [None] * shape[0]
        for row, number in enumerate(labels):
            label = None if number is None else names[number] if 0 <= number < len(names) else str(number)
            fields = {"id": f"{split}/{row}", "split": split, **({} if label is None else {"class": label})}
            sample, problem = reader.sample(f"{split}/{row}", 0, 0, fields)
            if problem:
                out.bad.append(Left(sample.path, problem))
            elif recipe.splits.keep is not None and sample.split not in recipe.splits.keep:
                out.ignored.append(Left(sample.path, f"the recipe keeps no split {sample.split}"))
            else:
                out.samples.append(sample)
    found = {s.label for s in out.samples if s.label is not None}
    out.classes = (
        (names or sorted(found, key=lambda n: (not n.isdigit(), int(n) if n.isdigit() else 0, n))) if found else []
    )
    negative = Counter(s.label for s in out.samples if s.label and s.label[0] == "-" and s.label[1:].isdigit())
    out.notes += [
        f"{n} images with the label {label} are a class of their own; if it means none, name the classes in a recipe, "
        "which makes these images bad samples, and give `on_bad: skip`"
        for label, n in sorted(negative.items())
    ]
    finish_splits(out, recipe, reader)
    return out


def _shapes(source: Path) -> dict[str, tuple[int, ...]]:
    out = {}
    with _opened(str(source)) as archive:
        for name in archive.namelist():
            if not name.endswith(".npy"):
                continue
            with archive.open(name) as f:
                try:
                    version = np.lib.format.read_magic(f)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read(f)
                except ValueError as e:
                    raise DataError(f"{name} is no array: {e}", where=str(source)) from e
                held = archive.getinfo(name).file_size - f.tell()
                if not dtype.hasobject and held != dtype.itemsize * math.prod(shape):
                    raise DataError(f"{name} is damaged: it has not the length its header says", where=str(source))
                out[name.removesuffix(".npy")] = tuple(shape)
    return out


def _labels(source: Path, name: str, shape: tuple[int, ...], n: int) -> list[int | None]:
    if math.prod(shape) != n:
        raise UsageError(f"{name} has shape {shape}: one class per image is needed", where=str(source))
    try:
        with np.load(source, allow_pickle=False) as archive:
            labels = archive[name]
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        raise DataError(f"{name} is damaged: {e}", where=str(source)) from e
    return [int(v) for v in labels.reshape(-1)]
