"""What a source is: its files, the recipe with everything that was detected filled in, and the samples."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from medvq.config.recipe import Recipe
from medvq.errors import NotFoundError, UsageError
from medvq.shards.source.checks import refuse_idle_masks
from medvq.shards.source.detect import Layout, detect
from medvq.shards.source.folder import Origin
from medvq.shards.source.guess import guess_table
from medvq.shards.source.npz import NpzOrigin, arrange_npz
from medvq.shards.source.patterns import compile_pattern
from medvq.shards.source.samples import Arranged, arrange
from medvq.shards.source.scan import Left, Scan, printable, scan

GENERIC = frozenset({"data", "dataset", "images", "image", "train", "training", "raw"})
"""Folder names that do not name a dataset; its parent does."""


@dataclass(frozen=True)
class ResolvedSource:
    """A source, read but not decoded."""

    recipe: Recipe
    layout: str
    """In words."""
    arranged: Arranged
    seen: int
    """Files that are neither masks nor tables."""
    origin: Origin | NpzOrigin


def must_exist(source: Path) -> None:
    """Nothing, where the source exists.

    Raises:
        NotFoundError: it does not.
    """
    if not source.exists():
        raise NotFoundError("no such source", where=str(source), hint="give the folder that holds the images")


def read_source(source: Path, recipe: Recipe | None = None, *, exclude: Collection[Path] = ()) -> ResolvedSource:
    """List `source` and sort its files into samples; nothing is decoded or written.

    Raises:
        NotFoundError: the source or a table is not there.
        UsageError: it holds no image, its layout cannot be told, or it lacks splits or masks that the recipe names.
    """
    source = Path(source)
    must_exist(source)
    recipe = recipe or Recipe()
    if source.is_file():
        return _read_npz(source, recipe)
    found = scan(source, ignore=recipe.ignore, exclude=exclude)
    if not found.images:
        arrays = [e.path for e in found.others if e.path.endswith(".npz")]
        if len(arrays) == 1:
            return _read_npz(source / arrays[0], recipe)
        raise UsageError("the source holds no image", where=str(source), hint=_what_there_is(found))
    strict, layout = not recipe.images, "as the recipe says"
    if not recipe.images:
        detected = detect([e.path for e in found.images])
        recipe = recipe.model_copy(update={"images": [detected.images], "masks": recipe.masks or detected.masks})
        layout = detected.about
        _set_apart(found, detected, recipe.masks)
        if not recipe.tables:
            masks = compile_pattern(recipe.masks) if recipe.masks else None
            files = [e.path for e in found.others]
            images = [e.path for e in found.images if not (masks and masks.match(e.path))]
            table, notes = guess_table(source, files, images, labelled="{class}" in detected.images)
            found.notes += notes
            if table:
                recipe = recipe.model_copy(update={"tables": [table]})
                layout += f"; labels in {table.file}"
    recipe = recipe.model_copy(update={"name": recipe.name or _name_of(source)})
    arranged = arrange(found, recipe, source, strict=strict)
    if not arranged.samples and not arranged.bad:
        raise UsageError(
            "no image fits the recipe",
            where=str(source),
            hint=f"{len(found.images)} images do not match {' or '.join(recipe.images)}",
        )
    refuse_idle_masks(recipe, [e.path for e in found.images])
    seen = len(arranged.samples) + len(arranged.bad) + len(arranged.ignored)
    return ResolvedSource(recipe, layout, arranged, seen, Origin(str(source.resolve())))


def _set_apart(found: Scan, detected: Layout, masks: str | None) -> None:
    """What lies beside an image and is named as its mask never enters as an image unremarked."""
    pattern = compile_pattern(masks) if masks else None
    for paths, whose in ((detected.beside, " of the image beside it"), (detected.alone, ", without an image")):
        odd = {p for p in paths if not (pattern and pattern.match(p))}
        reason = f"it is named as a mask{whose}, but masks here are {masks}; write a recipe"
        found.bad += [Left(e.path, reason) for e in found.images if e.path in odd]
        found.images = [e for e in found.images if e.path not in odd]
    if detected.doubtful:
        first = min(detected.doubtful)
        found.notes.append(
            f"{len(detected.doubtful)} images are named as masks of others ({first}); if they are, "
            'say so in a recipe: `masks: "{class}/{id}_mask.{ext}"` or alike'
        )


def _read_npz(source: Path, recipe: Recipe) -> ResolvedSource:
    if source.suffix != ".npz":
        raise UsageError(
            "the source is a file", where=str(source), hint="give the folder that holds the images, or an .npz"
        )
    recipe = recipe.model_copy(update={"name": recipe.name or source.stem})
    arranged = arrange_npz(source, recipe)
    seen = len(arranged.samples) + len(arranged.bad) + len(arranged.ignored)
    info = source.stat()
    origin = NpzOrigin(str(source.resolve()), f"{info.st_size}/{info.st_mtime_ns}")
    return ResolvedSource(recipe, "arrays of a MedMNIST file", arranged, seen, origin)


def understand(source: Path, recipe: Recipe | None = None) -> Recipe:
    """The recipe by which `source` would be packed: `recipe` with the detected layout filled in.

    Raises:
        NotFoundError, UsageError: as `read_source`.
    """
    return read_source(source, recipe).recipe


def _name_of(source: Path) -> str:
    path = Path(os.path.abspath(source))
    name = path.parent.name if path.name.lower() in GENERIC and path.parent.name else path.name
    return printable(name)


def _what_there_is(found: Scan) -> str:
    left = found.ignored + [Left(e.path, "not an image") for e in found.others]
    if not left:
        return "the folder is empty"
    shown = "; ".join(f"{row.path}: {row.reason}" for row in left[:3])
    return f"{len(left)} files are there, none of them an image ({shown})"


def inputs_of(understood: ResolvedSource, known: Mapping[str, str] | None = None) -> str:
    """sha256 over path and content of every image and mask, and over the recipe: whether a pack would be the same.

    `known` holds the sha256 of files that were read already.
    """
    known, origin = known or {}, understood.origin
    whole = hashlib.sha256(understood.recipe.model_dump_json(exclude_defaults=True).encode())
    for s in understood.arranged.samples:
        whole.update(f"\n{s.label}\0{s.split}\0{s.group}".encode())
        for path in [s.path, *([s.mask.path] if s.mask else [])]:
            whole.update(f"\0{path}\0{known.get(path) or origin.fingerprint(path)}".encode())
    for released in understood.arranged.released:
        whole.update("".join(origin.fingerprint(p) for p in released.paths).encode())
    for left in [*understood.arranged.bad, *understood.arranged.ignored]:
        whole.update(f"\n{left.path}\0{left.reason}".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
