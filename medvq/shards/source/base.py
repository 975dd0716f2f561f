"""The interface of a source, which is a container of images that `medvq shard` reads, and what a source lists."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from medvq.config.recipe import Recipe
from medvq.shards.image.bad import BadImage


@dataclass(frozen=True)
class SourceEntry:
    """A file of a source, or what corresponds to one: a member of a tar file, a row of an array."""

    path: str
    """Unique within the source, with `/` between its parts. For a folder, relative to it."""
    size: int
    """Bytes; 0 if the source does not know it before it reads the entry."""
    mtime: int = 0
    """Time of the last change in nanoseconds; 0 if unknown. An interrupted packing reuses its work only if it is
    the same."""
    fields: Mapping[str, str] | None = None
    """What the source itself says about the image: `class`, `split`, `group`, `id`. A missing key is unknown."""
    mask: SourceEntry | None = None
    """Its mask, if the source says which entry that is. A recipe's pattern `masks` replaces this."""


@dataclass(frozen=True)
class Left:
    """An entry that does not become a sample, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Guess:
    """Something that the recipe does not say and that was concluded from the source."""

    what: str
    """`layout`, `masks` or `table`."""
    choice: str
    """What was concluded, as a recipe says it."""
    evidence: str
    """Why, in words."""


@dataclass
class Listing:
    """Everything that a source holds. Nothing is decoded yet."""

    images: list[SourceEntry] = field(default_factory=list)
    """Entries that are images or masks, by name or by content."""
    others: list[SourceEntry] = field(default_factory=list)
    """Other readable files, such as tables and readmes. They are ignored, except for the tables of the recipe."""
    bad: list[Left] = field(default_factory=list)
    """Entries that are or may be images and cannot be used. Packing fails, or skips them, as `on_bad` says."""
    ignored: list[Left] = field(default_factory=list)
    """Entries that are no part of the dataset, such as hidden files."""
    notes: list[str] = field(default_factory=list)
    """Messages for the person who packs."""
    guesses: list[Guess] = field(default_factory=list)
    """What was concluded from the source, and by which evidence."""
    recipe: Recipe = field(default_factory=Recipe)
    """The recipe, completed with what the source detected: a name, a layout, a licence."""
    layout: str = "as the recipe says"
    """How the source is laid out, in words."""
    detected: bool = False
    """Whether the patterns of `recipe` were detected. An image that matches no detected pattern is bad; an image that
    matches no pattern of the user is ignored."""
    base: Path = Path()
    """The folder to which the tables and lists of the recipe are relative."""
    classes: list[str] = field(default_factory=list)
    """Class names in label order, if the source defines them."""
    numbered: bool = False
    """Whether class names are numbers, to be sorted as such: 2 before 10."""
    ordered: bool = False
    """Whether the order of `images` is meaningful. If not, samples are sorted by path."""


class Source(Protocol):
    """A container of images: a folder, an `.npz` file, tar shards, or a format of your own.

    A new container takes one file with one class that subclasses `Source`. A built-in one also takes a line in the
    registry `medvq.config.recipe.SOURCES`. A recipe names a class of your own by its import path:

    ```yaml
    container: my_lab.sources:MySource
    ```

    Packing makes one object, calls `listing` once, and then `read` for every entry of the listing, in any order, in
    several processes that are forked from the first one. An entry may be read more than once and must have the same
    bytes each time. `read` returns the bytes of an image file that medvq decodes: JPEG, PNG, TIFF, BMP, WebP, GIF, PNM
    or `.npy`. A source of another format returns its pixels as `.npy` bytes (`medvq.shards.image.arrays.npy_bytes`):
    (H, W) or (H, W, 3), of 8 or 16 bits, or floats in [0, 1].

    For packing on a cluster (`medvq shard --profile`) the object is pickled after `listing` and `prepared`.
    """

    def __init__(self, path: Path, recipe: Recipe, *, exclude: Collection[Path] = ()) -> None:
        """Open the container.

        Args:
            path: what the user gave: a file, a folder, or a glob of files.
            recipe: the user's recipe.
            exclude: folders below `path` that are not part of the source, such as the dataset that is being written.
        """

    @classmethod
    @abstractmethod
    def can_open(cls, path: Path, recipe: Recipe) -> bool:
        """Return whether `path` is such a container.

        Where the recipe names no container, the built-in sources are asked in turn. A folder that holds image files is
        a folder of images, and no other source is asked.
        """

    @abstractmethod
    def listing(self) -> Listing:
        """List all entries without decoding any.

        Every file must appear, so that nothing is lost silently: as an image, as the mask of an image, or in `bad`,
        `ignored` or `others`.

        Raises:
            UsageError: the container is not understood.
            DataError: the container as a whole is damaged.
        """

    @abstractmethod
    def read(self, path: str, size: int) -> bytes:
        """Return the bytes of an entry.

        Args:
            path: the `path` of the entry.
            size: its `size`.

        Raises:
            BadImage: the entry cannot be read, or changed since it was listed.
        """

    def identify(self, path: str) -> str:
        """Return what identifies the content of an entry: the sha256 of its bytes in hex, or why it cannot be read.

        This tells whether a dataset that exists already is the one that would be packed. It must be the sha256 of what
        `read` returns: the dataset's digest hashes those bytes.
        """
        try:
            return hashlib.sha256(self.read(path, 0)).hexdigest()
        except BadImage as e:
            return str(e)

    def stamp(self) -> str:
        """Return what identifies the state of the container, such as its path, size and time of change.

        An interrupted packing is continued only if the stamp, the entries and the recipe are the same.
        """
        return ""

    def prepared(self, folder: Path) -> Self:
        """Return a source of the same entries that several processes read fast.

        Args:
            folder: an empty folder for temporary files, or the one of an interrupted packing of the same stamp.

        Raises:
            OSError: the folder cannot be written.
            DataError: the container is damaged.
        """
        return self

    def close(self) -> None:
        """Release what the source holds open or in memory. A later `read` opens it again."""
        return
