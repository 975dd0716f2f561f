"""Find the tar shards of a source, and what lies beside them: our manifest, or a file of class names."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from medvq.config.recipe import Recipe
from medvq.errors import DataError, NotFoundError, UsageError
from medvq.shards.dataset.manifest import INDEX, MANIFEST, Manifest, read_manifest
from medvq.shards.source.base import Left, SourceEntry
from medvq.shards.source.folder import name_of
from medvq.shards.source.patterns import SPLIT_WORDS
from medvq.shards.source.scan import scan

PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
CLASS_FILES = ("classes.txt", "classes.json")


@dataclass
class ShardFiles:
    """The shards of a source, and the files beside them."""

    base: Path
    """The folder to which names are relative."""
    shards: list[tuple[Path, str]] = field(default_factory=list)
    """Path and relative name of every shard, sorted by name."""
    others: list[SourceEntry] = field(default_factory=list)
    bad: list[Left] = field(default_factory=list)
    ignored: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    manifest: Manifest | None = None
    """The manifest, if `medvq shard` wrote the shards."""
    classes: list[str] = field(default_factory=list)
    """Class names in the order of their numbers, if a file beside the shards lists them."""
    class_file: str = ""
    """The name of that file."""

    @property
    def layout(self) -> str:
        """What was found, in words."""
        what = f"WebDataset shards ({len(self.shards)} tar files)"
        return f"{what} of the medvq dataset {self.manifest.name}" if self.manifest else what


def is_glob(path: Path) -> bool:
    """Return whether there is no file at `path` and it has wildcards, or braces such as `{000000..000009}`."""
    return not path.exists() and bool(re.search(r"[*?\[{]", str(path)))


def holds_shards(folder: Path) -> bool:
    """Return whether a folder has a tar file in it or below."""
    return any(e.path.lower().endswith((".tar", *PACKED)) for e in scan(folder).others)


def find_shards(path: Path, *, exclude: Collection[Path] = ()) -> ShardFiles:
    """Find the shards of the file, folder or glob `path`.

    Raises:
        NotFoundError: no file matches the glob, or one that it names with braces is missing.
        UsageError: the shards are compressed.
        DataError: a manifest or a file of class names beside the shards is damaged.
    """
    if path.is_dir():
        out = _of_folder(path, exclude)
    else:
        paths = [path] if path.exists() else _matches(str(path))
        base = Path(os.path.commonpath([p.absolute().parent for p in paths]))
        out = ShardFiles(base, [(p, os.path.relpath(p.absolute(), base)) for p in paths])
    packed = [name for _, name in out.shards if name.lower().endswith(PACKED)]
    if packed:
        raise UsageError(
            f"{len(packed)} shards are compressed, such as {packed[0]}, and cannot be read by position",
            where=str(path),
            hint="unpack them to .tar files first, with gunzip, bunzip2, unxz or unzstd",
        )
    out.shards.sort(key=lambda shard: shard[1])
    _read_manifest(out, whole=path.is_dir())
    if out.manifest is None:
        _read_classes(out)
    beside = {MANIFEST, INDEX} if out.manifest else {out.class_file}
    out.others = [e for e in out.others if e.path not in beside]
    return out


def described(files: ShardFiles, path: Path, recipe: Recipe) -> Recipe:
    """Return the recipe, completed with a name and with what a manifest says of licence and origin."""
    m = files.manifest
    if m is None:
        plain = "" if path.is_dir() or len(files.shards) > 1 else re.sub(r"[-_.]?\d+$", "", path.stem)
        name = name_of(files.base) if plain.lower() in {"", *SPLIT_WORDS} else plain
        return recipe.model_copy(update={"name": recipe.name or name})
    said = {"name": m.name, "licence": m.licence, "source": m.source, "cite": m.cite}
    return recipe.model_copy(update={key: getattr(recipe, key) or value for key, value in said.items()})


def split_of_shard(name: str) -> str | None:
    """Return the split that the name of a shard, else that of the nearest folder, tells: `train-000000.tar` is train.

    A name that tells two, such as `train-val-0.tar`, tells none.
    """
    for part in reversed(name.split("/")):
        words = {SPLIT_WORDS[w]: w for w in re.split(r"[^a-z]+", part.lower().removesuffix(".tar")) if w in SPLIT_WORDS}
        if words:
            return next(iter(words)) if len(words) == 1 else None
    return None


def _of_folder(folder: Path, exclude: Collection[Path]) -> ShardFiles:
    found = scan(folder, exclude=exclude)
    out = ShardFiles(folder, bad=found.bad, ignored=found.ignored, notes=found.notes)
    out.ignored += [Left(e.path, "an image that is not in a shard") for e in found.images]
    for entry in found.others:
        if entry.path.lower().endswith((".tar", *PACKED)):
            out.shards.append((folder / entry.path, entry.path))
        else:
            out.others.append(entry)
    return out


def _matches(pattern: str) -> list[Path]:
    from braceexpand import braceexpand

    try:
        patterns = list(braceexpand(pattern))
    except ValueError as e:
        raise UsageError(f"the braces of the glob do not match: {e}", where=pattern) from e
    found: set[str] = set()
    for one in patterns:
        matched = glob.glob(one, recursive=True) if glob.has_magic(one) else [one] * os.path.exists(one)
        if not matched:
            hint = "correct the glob, and quote it so that the shell does not expand it"
            raise NotFoundError("no such shard", where=one, hint=hint)
        found.update(matched)
    return [Path(p) for p in sorted(found) if os.path.isfile(p)]


def _read_manifest(out: ShardFiles, *, whole: bool) -> None:
    """Read our manifest beside the shards, if there is one, and check the shards against it."""
    if not _is_ours(out.base / MANIFEST):
        return
    manifest = read_manifest(out.base)
    listed, found = {s.file: s for s in manifest.shards}, {name for _, name in out.shards}
    if not whole and not found <= set(listed):
        return
    out.manifest = manifest
    out.classes, out.class_file = manifest.classes, MANIFEST
    for path, name in out.shards:
        if name not in listed:
            out.bad.append(Left(name, "the manifest of the dataset knows no such shard"))
        elif (size := path.stat().st_size) != listed[name].bytes:
            out.bad.append(Left(name, f"it has {size:,} bytes, and {listed[name].bytes:,} by the dataset's manifest"))
    out.shards = [(path, name) for path, name in out.shards if name in listed]
    if whole:
        missing = sorted(set(listed) - found)
        out.bad += [Left(name, "the manifest of the dataset names this shard, and it is missing") for name in missing]


def _is_ours(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"digest", "index", "shards", "self"} <= set(found)


def _read_classes(out: ShardFiles) -> None:
    path = next((out.base / name for name in CLASS_FILES if (out.base / name).is_file()), None)
    if path is None:
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".txt":
            names = [line.strip() for line in text.splitlines() if line.strip()]
        else:
            names = _ordered(json.loads(text))
    except (OSError, ValueError, RecursionError) as e:
        raise DataError(f"the class names cannot be read: {e}", where=str(path)) from e
    if not names or len(set(names)) < len(names):
        raise DataError("the file lists no class, or one twice", where=str(path))
    out.classes, out.class_file = names, path.name


def _ordered(found: object) -> list[str]:
    """Return the class names of a `classes.json`: a list, `{name: number}` or `{number: name}`.

    Raises:
        ValueError: it is none of these, or the numbers are not 0, 1, 2 and so on.
    """
    if isinstance(found, dict):
        by_number = (
            {int(v): str(k) for k, v in found.items()}
            if all(isinstance(v, int) for v in found.values())
            else {int(k): str(v) for k, v in found.items()}
        )
        if sorted(by_number) != list(range(len(found))):
            raise ValueError("the numbers of classes must be 0, 1, 2 and so on")
        return [by_number[n] for n in range(len(found))]
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return list(found)
    raise ValueError("give a list of names, {name: number} or {number: name}")
