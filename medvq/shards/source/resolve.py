"""What a source is: its container, the recipe completed with everything that was detected, and the samples."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from medvq.config.recipe import SOURCES, Recipe
from medvq.errors import NotFoundError, UsageError
from medvq.shards.source.base import Source
from medvq.shards.source.checks import refuse_idle_masks
from medvq.shards.source.folder import FolderSource
from medvq.shards.source.pages import with_pages
from medvq.shards.source.samples import Arranged, arrange


@dataclass(frozen=True)
class ResolvedSource:
    """A source whose entries are sorted into samples. Nothing is decoded yet."""

    recipe: Recipe
    """The recipe as used."""
    layout: str
    """The layout in words."""
    arranged: Arranged
    seen: int
    """Number of entries that are neither masks nor tables."""
    source: Source


def must_exist(path: Path, recipe: Recipe | None = None) -> None:
    """Raise NotFoundError if there is nothing at `path` and no source understands it as a glob of files."""
    if path.exists() or any(kind.can_open(path, recipe or Recipe()) for kind in _kinds(recipe or Recipe())):
        return
    raise NotFoundError("no such source", where=str(path), hint="give the folder that holds the images")


def read_source(path: Path, recipe: Recipe | None = None, *, exclude: Collection[Path] = ()) -> ResolvedSource:
    """List the source at `path` and sort its entries into samples. Nothing is decoded or written.

    Args:
        path: a folder, a file, or a glob of files.
        recipe: what the entries mean; without one, this is detected.
        exclude: folders below `path` that are not part of the source.

    Raises:
        NotFoundError: the source or a table does not exist.
        UsageError: the source holds no image, its layout cannot be detected, or it lacks splits or masks that the
            recipe names.
        DataError: the container or a table is damaged.
    """
    path, recipe = Path(path), recipe or Recipe()
    source = open_source(path, recipe, exclude=exclude)
    found = source.listing()
    twice = [p for p, n in Counter(e.path for e in found.images).items() if n > 1]
    if twice:
        raise UsageError(f"the source lists {twice[0]} more than once", where=str(path), hint="paths must be unique")
    arranged = arrange(found)
    if not arranged.samples and not arranged.bad:
        patterns = " or ".join(found.recipe.images)
        left = f"do not match {patterns}" if patterns else "are there, and the recipe keeps none of them"
        example = f", such as {found.images[0].path}" if found.images else ""
        raise UsageError(
            "no image fits the recipe", where=str(path), hint=f"{len(found.images)} images {left}{example}"
        )
    if found.recipe.pages == "all":
        source = with_pages(arranged, source)
    refuse_idle_masks(found.recipe, [e.path for e in found.images])
    seen = len(arranged.samples) + len(arranged.bad) + len(arranged.ignored)
    return ResolvedSource(found.recipe, found.layout, arranged, seen, source)


def open_source(path: Path, recipe: Recipe, *, exclude: Collection[Path] = ()) -> Source:
    """Open the container at `path`: the kind that the recipe names, else the one that is detected.

    A folder that holds image files is a folder of images, whatever else it holds.

    Raises:
        NotFoundError: there is nothing at `path`.
        UsageError: no source can open it, or not the one that the recipe names.
    """
    must_exist(path, recipe)
    if recipe.container is None and path.is_dir():
        folder = FolderSource(path, recipe, exclude=exclude)
        if folder.found.images:
            return folder
    kind = next((k for k in _kinds(recipe) if k.can_open(path, recipe)), None)
    if kind is not None:
        return kind(path, recipe, exclude=exclude)
    if recipe.container is not None:
        hint = "leave `container` out of the recipe, and the kind of source is detected"
        raise UsageError(f"the container {recipe.container} cannot open the source", where=str(path), hint=hint)
    hint = "give the folder that holds the images, an .npz file, or .tar files"
    raise UsageError("the source is a file of another kind", where=str(path), hint=hint)


def _kinds(recipe: Recipe) -> list[type[Source]]:
    """Return the kinds of sources that may open a path: the one that the recipe names, else all built-in ones.

    Raises:
        UsageError: there is no such kind, or it lacks a method of `Source`.
    """
    if recipe.container is None:
        return [SOURCES[name] for name in SOURCES]
    kind = SOURCES.find(recipe.container)
    needed = [n for n in vars(Source) if not n.startswith("_")]
    missing = sorted(getattr(kind, "__abstractmethods__", [])) or [n for n in needed if not hasattr(kind, n)]
    if not isinstance(kind, type) or missing:
        what = f"lacks {', '.join(missing)}" if isinstance(kind, type) else "is not a class"
        hint = "subclass medvq.shards.source.base.Source"
        raise UsageError(f"{recipe.container} is not a source: it {what}", hint=hint)
    return [kind]


def understand(path: Path, recipe: Recipe | None = None) -> Recipe:
    """Return the recipe by which the source at `path` would be packed: `recipe` completed with what is detected.

    Raises:
        NotFoundError, UsageError, DataError: as for `read_source`.
    """
    return read_source(path, recipe).recipe


def inputs_of(resolved: ResolvedSource, known: Mapping[str, str] | None = None) -> str:
    """Return a sha256 over everything that a packed dataset depends on: whether packing again would give the same.

    It covers the recipe, path, content, label, split and group of every sample, and what was left out.

    Args:
        resolved: the source.
        known: sha256 by path of entries that were read already.
    """
    known, source = known or {}, resolved.source
    whole = hashlib.sha256(resolved.recipe.model_dump_json(exclude_defaults=True, exclude={"official"}).encode())
    for s in resolved.arranged.samples:
        whole.update(f"\n{s.label}\0{s.split}\0{s.group}".encode())
        for path in [s.path, *([s.mask.path] if s.mask else [])]:
            whole.update(f"\0{path}\0{known.get(path) or source.identify(path)}".encode())
    for released in resolved.arranged.released:
        whole.update("".join(source.identify(p) for p in released.paths).encode())
    for left in [*resolved.arranged.bad, *resolved.arranged.ignored]:
        whole.update(f"\n{left.path}\0{left.reason}".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
