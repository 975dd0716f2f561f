"""A MedMNIST file as a source: one `.npz` with `train_images`, `train_labels`, `val_images` and so on."""

from __future__ import annotations

import math
import os
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from medvq.config.recipe import Recipe
from medvq.errors import DataError, UsageError
from medvq.shards.image.arrays import npy_bytes
from medvq.shards.image.bad import BadImage
from medvq.shards.source.base import Listing, Source, SourceEntry
from medvq.shards.source.checks import refuse_metadata
from medvq.shards.source.official import official_notes
from medvq.shards.source.scan import scan


class NpzSource(Source):
    """Rows of the arrays of an `.npz`. An entry is called `split/row`, and is read as the bytes of an `.npy` file."""

    def __init__(self, path: Path, recipe: Recipe, *, exclude: Collection[Path] = ()) -> None:
        self.file = path if path.is_file() else path / _npz_files(path, recipe)[0]
        self.recipe = recipe
        self.root = str(self.file.resolve())
        self._unpacked = ""
        """The folder to which the arrays were unpacked, so that processes map them instead of each holding them."""
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}}

    @classmethod
    def can_open(cls, path: Path, recipe: Recipe) -> bool:
        """Return whether `path` is an `.npz` file, or a folder with exactly one."""
        if path.is_dir():
            return len(_npz_files(path, recipe)) == 1
        return path.suffix == ".npz" and path.is_file()

    def listing(self) -> Listing:
        """List the rows without reading the images.

        Raises:
            UsageError: the file holds no `*_images`, or volumes instead of images, or several classes per image; or the
                recipe names metadata.
            DataError: the file is damaged.
        """
        refuse_metadata(self.recipe, "an .npz file", str(self.file))
        shapes = _shapes(self.file)
        splits = [n.removesuffix("_images") for n in shapes if n.endswith("_images")]
        if not splits:
            hint = f"it holds {', '.join(shapes) or 'none'}"
            raise UsageError("no array is called *_images", where=str(self.file), hint=hint)
        names = self.recipe.class_names()
        out = Listing(layout="arrays of a MedMNIST file", base=self.file.parent, numbered=True, ordered=True)
        out.recipe = self.recipe.model_copy(update={"name": self.recipe.name or self.file.stem})
        negative: Counter[int] = Counter()
        for split in splits:
            shape = shapes[f"{split}_images"]
            if 0 in shape[1:] or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
                what = f"{split}_images has shape {shape}; images are (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
                raise UsageError(what, where=str(self.file))
            named = f"{split}_labels"
            labels = _labels(self.file, named, shapes[named], shape[0]) if named in shapes else [None] * shape[0]
            negative.update(n for n in labels if n is not None and n < 0)
            for row, number in enumerate(labels):
                fields = {"id": f"{split}/{row}", "split": split}
                if number is not None:
                    fields["class"] = names[number] if 0 <= number < len(names) else str(number)
                out.images.append(SourceEntry(f"{split}/{row}", 0, fields=fields))
        out.notes += official_notes(
            self.file, self.recipe.official, {split: shapes[f"{split}_images"][0] for split in splits}
        )
        if not names:
            out.notes += [
                f"{n} images with the label {label} are a class of their own; if it means none, name the classes in a "
                "recipe, which makes these images bad samples, and give `on_bad: skip`"
                for label, n in sorted(negative.items())
            ]
        return out

    def read(self, path: str, size: int) -> bytes:
        """Return the row `split/row` as the bytes of an `.npy` file.

        Raises:
            BadImage: the row cannot be read.
        """
        split, _, row = path.partition("/")
        try:
            image = self._array(f"{split}_images")[int(row)]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
            raise BadImage(f"cannot be read: {e}") from e
        return npy_bytes(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)

    def stamp(self) -> str:
        """Return path, size and time of change of the file."""
        info = self.file.stat()
        return f"{self.root} {info.st_size}/{info.st_mtime_ns}"

    def prepared(self, folder: Path) -> Self:
        """Return a source of the same rows that reads arrays unpacked into `folder`. Arrays that are there are used.

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
        out = copy(self)
        out._unpacked, out._arrays = str(folder), {}
        return out

    def close(self) -> None:
        """Release the arrays. A mapped file that was removed takes room on the disk until then."""
        self._arrays.clear()

    def _array(self, name: str) -> npt.NDArray[Any]:
        if name not in self._arrays:
            if self._unpacked:
                path = os.path.join(self._unpacked, f"{name}.npy")
                self._arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            else:
                with np.load(self.root, allow_pickle=False) as archive:
                    self._arrays[name] = archive[name]
        return self._arrays[name]


def _npz_files(folder: Path, recipe: Recipe) -> list[str]:
    return [e.path for e in scan(folder, ignore=recipe.ignore).others if e.path.endswith(".npz")]


def _opened(path: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as e:
        raise DataError(f"not an .npz file: {e}", where=path) from e


def _shapes(source: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array by name, read from the headers only.

    Raises:
        DataError: an array has not the length that its header says.
    """
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
