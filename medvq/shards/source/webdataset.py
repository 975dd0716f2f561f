"""WebDataset shards as a source: `.tar` files whose members `KEY.jpg`, `KEY.cls`, `KEY.json` make the sample KEY.

The headers are read once, in the first process. Every process then reads the members that it needs by position.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from medvq.config.recipe import Recipe
from medvq.shards.image.bad import BadImage
from medvq.shards.source.base import Left, Listing, Source, SourceEntry
from medvq.shards.source.folder import LARGEST_FILE
from medvq.shards.source.patterns import compile_pattern
from medvq.shards.source.scan import idle_notes, printable, reason_to_ignore
from medvq.shards.source.shard_files import described, find_shards, holds_shards, is_glob, split_of_shard
from medvq.shards.source.tar_gathered import Gathered, GatheredSample, groups_differ, notes_of
from medvq.shards.source.tar_index import TarMember, index_tar
from medvq.shards.source.tar_labels import TarClasses
from medvq.shards.source.tar_samples import (
    IMAGES,
    LARGEST_TEXT,
    Stated,
    TarSample,
    group_members,
    key_and_suffix,
    stated_by,
    take_masks_beside,
)

_OPEN_SHARDS = 128


class _Shard(NamedTuple):
    path: str
    name: str
    size: int
    mtime: int


class _Place(NamedTuple):
    """Where the data of a member lie."""

    shard: int
    offset: int
    size: int


class WebDatasetSource(Source):
    """Tar shards: one `.tar` file, a folder of them, or a glob such as `data/train-{000000..000009}.tar`.

    An entry is called by its shard and its member, such as `train-000000.tar/KEY.jpg`. Patterns of a recipe match this.

    - Image: the member whose suffix is that of an image or `npy`. A key must have one, unless the recipe has patterns.
    - Mask: `KEY.mask.png`, `KEY.seg.png`, or the image of a key `KEY_mask`.
    - Label: `KEY.cls`, a number or a name, or `class` or `label` of `KEY.json`. Names of numbers come from
      `classes.txt` or `classes.json` beside the shards, from samples that state both, or from the recipe's `classes`.
    - Split: `split` of `KEY.json`, else a usual name of a split in the shard's name or in its folder.
    - Group: `group` or `patient` of `KEY.json`. The recipe's `metadata` names other keys.

    A folder that `medvq shard` wrote is read with the classes, the name and the licence of its manifest.
    """

    def __init__(self, path: Path, recipe: Recipe, *, exclude: Collection[Path] = ()) -> None:
        self.path, self.recipe, self._exclude = path, recipe, exclude
        self._shards: list[_Shard] = []
        self._places: dict[str, _Place] = {}
        self._files: dict[int, int] = {}

    @classmethod
    def can_open(cls, path: Path, recipe: Recipe) -> bool:
        """Return whether `path` is a tar file, a folder with tar files, or a glob of tar files."""
        if path.is_dir():
            return holds_shards(path)
        return bool({".tar", ".tgz"} & set(path.suffixes)) and (path.is_file() or is_glob(path))

    def listing(self) -> Listing:
        """Read the headers of all shards, and the members `cls` and `json`.

        A shard that is damaged or cut off is a bad entry. Samples before the damage are listed.

        Raises:
            NotFoundError: no file matches the glob, or one that it names is missing.
            UsageError: the shards are compressed.
            DataError: the manifest or the file of class names beside the shards is damaged.
        """
        files = find_shards(self.path, exclude=self._exclude)
        out = Listing(base=files.base, others=files.others, bad=files.bad, ignored=files.ignored, notes=files.notes)
        out.recipe, out.layout = described(files, self.path, self.recipe), files.layout
        gathered = Gathered()
        self._shards = [
            _Shard(str(p.resolve()), name, p.stat().st_size, p.stat().st_mtime_ns) for p, name in files.shards
        ]
        for shard in range(len(self._shards)):
            self._index(shard, out, gathered)
        classes = TarClasses(files.classes, files.class_file, self.recipe, gathered.samples)
        out.classes, out.numbered = classes.order, classes.numbered
        grouped = not groups_differ(gathered.samples)
        for sample in gathered.samples:
            self._add(sample, classes, grouped, out)
        out.notes += notes_of(gathered, self.recipe, grouped, [s.name for s in self._shards])
        out.notes += idle_notes(self.recipe.ignore, gathered.paths)
        return out

    def read(self, path: str, size: int) -> bytes:
        """Return the bytes of the member at `path`.

        Raises:
            BadImage: the member is empty or too large, or its shard cannot be read or changed since it was listed.
        """
        shard, offset, length = self._places[path]
        if not length:
            raise BadImage("the file is empty")
        if length > LARGEST_FILE:
            raise BadImage(f"the file has {length:,} bytes, more than {LARGEST_FILE:,}")
        return self._read(shard, offset, length)

    def stamp(self) -> str:
        """Return path, size and time of change of all shards."""
        return repr(self._shards)

    def close(self) -> None:
        """Close the shards."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def _read(self, shard: int, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._open(shard), length, offset)
        except OSError as e:
            raise BadImage(f"its shard cannot be read: {e.strerror}") from e
        if len(data) != length:
            raise BadImage("its shard is cut off")
        return data

    def _open(self, shard: int) -> int:
        if shard not in self._files:
            if len(self._files) >= _OPEN_SHARDS:
                os.close(self._files.pop(next(iter(self._files))))
            about = self._shards[shard]
            fd = os.open(about.path, os.O_RDONLY | os.O_CLOEXEC)
            self._files[shard] = fd
            info = os.fstat(fd)
            if (info.st_size, info.st_mtime_ns) != (about.size, about.mtime):
                raise BadImage("its shard changed while it was read")
        return self._files[shard]

    def _index(self, shard: int, out: Listing, gathered: Gathered) -> None:
        """Add the samples of a shard to `gathered`, and what is no part of a sample to `out`."""
        about = self._shards[shard]
        index = index_tar(Path(about.path))
        if index.problem:
            out.bad.append(Left(about.name, index.problem))
        elif not index.members and not index.odd:
            out.notes.append(f"{about.name} is an empty shard")
        for name, reason in index.odd:
            path = printable(f"{about.name}/{name}")
            why = None if ".." in name.split("/") else reason_to_ignore(path, self.recipe.ignore)
            (out.bad if why is None and _is_image(name) else out.ignored).append(Left(path, why or reason))
        members = []
        for member in index.members:
            path = f"{about.name}/{member.name}"
            if self.recipe.ignore:
                gathered.paths.append(path)
            why = "metadata of the shard" if member.name.startswith("__") else None
            why = reason_to_ignore(path, self.recipe.ignore) or why
            if why:
                out.ignored.append(Left(path, why))
            else:
                members.append(member)
        samples, strangers = group_members(members)
        out.ignored += [
            Left(f"{about.name}/{m.name}", "it has no suffix, so that it belongs to no sample") for m in strangers
        ]
        if not self.recipe.images and self.recipe.masks is None:
            samples = take_masks_beside(samples)
        torn = key_and_suffix(index.last) if index.last else None
        for sample in samples:
            made = self._sample(shard, sample, out, gathered)
            if made is None:
                continue
            if torn and sample.key == torn[0]:
                made.problem = made.problem or "the shard is damaged or cut off behind it, so that it may lack members"
            gathered.samples.append(made)

    def _sample(self, shard: int, sample: TarSample, out: Listing, gathered: Gathered) -> GatheredSample | None:
        """Decide which members are image and mask, and read what the sample states; None if it has no image."""
        name, patterns = self._shards[shard].name, bool(self.recipe.images)
        if self.recipe.masks is not None:
            pattern = compile_pattern(self.recipe.masks)
            pictures = sample.images + sample.masks
            masks = [m for m in pictures if pattern.match(f"{name}/{m.name}")]
            sample.images, sample.masks = [m for m in pictures if m not in masks], []
            out.images += [self._entry(shard, m) for m in masks]
        if not patterns:
            sample.choose()
        if not sample.images:
            rest = [*sample.cls, *sample.json, *sample.others]
            out.ignored += [Left(f"{name}/{m.name}", "a mask without an image") for m in sample.masks]
            out.ignored += [Left(f"{name}/{m.name}", "its sample has no image") for m in rest]
            return None
        gathered.unread.update(f".{m.name.rpartition('.')[2].lower()}" for m in sample.others)
        problem = sample.problem(several=patterns)
        stated = Stated() if problem else self._stated(shard, sample)
        gathered.keys.update(stated.keys)
        return GatheredSample(
            shard, sample.key, sample.images, sample.masks[0] if sample.masks else None, problem or stated.problem,
            stated.number, stated.name, stated.split, stated.id, stated.groups,
        )  # fmt: skip

    def _stated(self, shard: int, sample: TarSample) -> Stated:
        texts: list[bytes | None] = []
        for members in (sample.cls, sample.json):
            if members and members[0].size > LARGEST_TEXT:
                return Stated(problem=f"{members[0].name} has {members[0].size:,} bytes, more than {LARGEST_TEXT:,}")
            try:
                texts.append(self._read(shard, members[0].offset, members[0].size) if members else None)
            except BadImage as e:
                return Stated(problem=str(e))
        return stated_by(texts[0], texts[1], self.recipe.metadata)

    def _add(self, sample: GatheredSample, classes: TarClasses, grouped: bool, out: Listing) -> None:
        """List the images of a sample."""
        label, unclear = classes.label_of(sample)
        split, doubt = self._split_of(sample)
        problem = sample.problem or unclear or doubt
        fields = {"id": sample.id or sample.key.rpartition("/")[2]}
        if label is not None:
            fields["class"] = label
        if split is not None:
            fields["split"] = split
        if grouped and sample.groups:
            fields["group"] = next(iter(sample.groups.values()))
        mask = None if sample.mask is None else self._entry(sample.shard, sample.mask)
        for image in sample.images:
            entry = self._entry(sample.shard, image, fields, mask)
            if problem:
                out.bad.append(Left(entry.path, problem))
            else:
                out.images.append(entry)

    def _split_of(self, sample: GatheredSample) -> tuple[str | None, str | None]:
        """Return the split of a sample, and why it is not clear, if so."""
        name = self._shards[sample.shard].name
        by_name = split_of_shard(name)
        if sample.split is None and (key := self.recipe.metadata.get("split")):
            return None, f"its JSON has no {key}"
        if sample.split is None or "split" in self.recipe.metadata or by_name is None:
            return sample.split or by_name, None
        if split_of_shard(sample.split) not in (None, by_name):
            return None, (
                f"two splits: {sample.split} by its JSON and {by_name} by the shard's name; say in a recipe which one "
                "counts, `metadata: {split: split}` for the JSON or `metadata: {split: null}` for the name"
            )
        return sample.split, None

    def _entry(
        self, shard: int, member: TarMember, fields: dict[str, str] | None = None, mask: SourceEntry | None = None
    ) -> SourceEntry:
        about = self._shards[shard]
        path = f"{about.name}/{member.name}"
        self._places[path] = _Place(shard, member.offset, member.size)
        return SourceEntry(path, member.size, about.mtime, fields, mask)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGES
