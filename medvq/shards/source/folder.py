"""A folder of image files as a source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from medvq.config.recipe import Recipe
from medvq.errors import UsageError
from medvq.shards.image.bad import BadImage
from medvq.shards.source.base import Guess, Left, Listing, Source
from medvq.shards.source.checks import refuse_metadata
from medvq.shards.source.detect import MASK_END, Layout, detect
from medvq.shards.source.guess import guess_table
from medvq.shards.source.patterns import compile_pattern, stem
from medvq.shards.source.scan import printable, scan

LARGEST_FILE = 1 << 30
"""Bytes; a larger image file is refused unread."""
GENERIC = frozenset({"data", "dataset", "images", "image", "train", "training", "raw"})
"""Folder names that do not name a dataset. Such a dataset is called by the name of the folder above."""


class FolderSource(Source):
    """A folder of image files. Paths tell labels, splits and groups by the patterns of the recipe or detected ones."""

    def __init__(self, path: Path, recipe: Recipe, *, exclude: Collection[Path] = ()) -> None:
        self.path, self.recipe, self._exclude = path, recipe, exclude
        self.root = str(path.resolve())
        self._found: Listing | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Reading needs no listing, which may be large.
        return {**self.__dict__, "_found": None}

    @classmethod
    def can_open(cls, path: Path, recipe: Recipe) -> bool:
        """Return whether `path` is a folder."""
        return path.is_dir()

    @property
    def found(self) -> Listing:
        """The files of the folder, listed once, before any pattern is applied."""
        if self._found is None:
            self._found = scan(self.path, ignore=self.recipe.ignore, exclude=self._exclude, links=self.recipe.links)
        return self._found

    def listing(self) -> Listing:
        """List the files, and detect layout and table of labels if the recipe has no patterns of images.

        Raises:
            UsageError: the folder holds no image, its layout cannot be detected, or the recipe names metadata.
        """
        found, recipe = self.found, self.recipe
        if not found.images:
            raise UsageError("the source holds no image", where=str(self.path), hint=_what_there_is(found))
        refuse_metadata(recipe, "a folder of images", str(self.path))
        found.base = self.path
        if not recipe.images:
            detected = detect([e.path for e in found.images])
            recipe = recipe.model_copy(update={"images": [detected.images], "masks": recipe.masks or detected.masks})
            found.layout, found.detected = detected.about, True
            found.guesses.append(Guess("layout", f'images: "{detected.images}"', detected.about))
            _set_apart(found, detected, recipe.masks)
            if not recipe.tables:
                masks = compile_pattern(recipe.masks) if recipe.masks else None
                files = [e.path for e in found.others]
                pattern = compile_pattern(detected.images)
                paths = [e.path for e in found.images if not (masks and masks.match(e.path))]
                images = {p: pattern.match(p) or {} for p in paths}
                layout = [f'images: "{detected.images}"', *([f'masks: "{recipe.masks}"'] if recipe.masks else [])]
                table, notes, guesses = guess_table(self.path, files, images, layout)
                found.notes += notes
                found.guesses += guesses
                if table:
                    recipe = recipe.model_copy(update={"tables": [table]})
                    found.layout += f"; labels in {table.file}"
        found.recipe = recipe.model_copy(update={"name": recipe.name or name_of(self.path)})
        return found

    def read(self, path: str, size: int) -> bytes:
        """Return the whole file at `path`, which must have `size` bytes.

        Raises:
            BadImage: the file cannot be read, is empty or too large, or changed since the folder was listed.
        """
        if size > LARGEST_FILE:
            raise BadImage(f"the file has {size:,} bytes, more than {LARGEST_FILE:,}")
        try:
            f = os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(f, size + 1)
                while 0 < len(data) < size:
                    more = os.read(f, size + 1 - len(data))
                    if not more:
                        break
                    data += more
            finally:
                os.close(f)
        except OSError as e:
            raise BadImage(f"cannot be read: {e.strerror}") from e
        if not data:
            raise BadImage("the file is empty")
        if len(data) != size:
            raise BadImage("the file changed while it was read")
        return data

    def identify(self, path: str) -> str:
        """Return the sha256 of the file, or why it cannot be read."""
        try:
            with open(os.path.join(self.root, path), "rb") as f:
                return hashlib.file_digest(f, "sha256").hexdigest()
        except OSError as e:
            return str(e.strerror)

    def stamp(self) -> str:
        """Return the folder's path."""
        return self.root


def name_of(folder: Path) -> str:
    """Return what to call the dataset in `folder`: its name, or the parent's if it is as general as `images`."""
    path = Path(os.path.abspath(folder))
    name = path.parent.name if path.name.lower() in GENERIC and path.parent.name else path.name
    return printable(name)


def _set_apart(found: Listing, detected: Layout, masks: str | None) -> None:
    """Remove from the images what is named like a mask and does not match the pattern `masks`.

    Such a file becomes a bad sample. If most of these names have no image beside them, they stay images, with a note.
    """
    pattern = compile_pattern(masks) if masks else None
    for paths, whose in ((detected.beside, " of the image beside it"), (detected.alone, ", without an image")):
        odd = {p for p in paths if not (pattern and pattern.match(p))}
        reason = f"it is named as a mask{whose}, but masks here are {masks}; "
        reason += "rename it, or give the pattern of all masks in a recipe as `masks`"
        found.bad += [Left(e.path, reason) for e in found.images if e.path in odd]
        found.images = [e for e in found.images if e.path not in odd]
    if detected.doubtful:
        first = min(detected.doubtful)
        end = MASK_END.fullmatch(stem(first))
        line = f'masks: "{detected.images.removesuffix("{name}")}{{id}}{end[2] if end else ""}.{{ext}}"'
        found.notes.append(
            f"{len(detected.doubtful)} images are named as masks of others ({first}); if they are, "
            f"say so in a recipe: `{line}`"
        )


def _what_there_is(found: Listing) -> str:
    left = found.ignored + [Left(e.path, "not an image") for e in found.others]
    if not left:
        return "the folder is empty"
    shown = "; ".join(f"{row.path}: {row.reason}" for row in left[:3])
    return f"{len(left)} files are there, none of them an image ({shown})"
