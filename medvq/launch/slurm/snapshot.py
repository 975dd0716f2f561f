"""A copy of the code that queued runs use, so that later edits do not change them."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

import medvq
from medvq.config.plugins import files_of, is_installed, root_of
from medvq.files import make_folder, write_json
from medvq.runs.provenance import provenance

SUFFIXES = (".py", ".yaml", ".typed")


Files = dict[Path, bytes]
"""What the files of a snapshot hold, by path in it."""


def contents(own: Iterable[str] = ()) -> Files:
    """What a snapshot has: medvq as it is here, and the code of the user.

    Args:
        own: import paths of the user's models and tasks. What is installed stays where it is.
    """
    package = Path(medvq.__file__).parent
    files = {p.relative_to(package.parent): p.read_bytes() for p in sorted(package.rglob("*")) if p.suffix in SUFFIXES}
    for path in sorted(set(own)):
        root = root_of(path)
        if not is_installed(root):
            files |= {f.relative_to(root): f.read_bytes() for f in files_of(path).values()}
    return files


def place_of(runs: Path, files: Files) -> Path:
    """The folder of a snapshot, named by its content; `runs` is the folder of all runs."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return runs.resolve() / ".code" / digest.hexdigest()[:16]


def snapshot(runs: Path, own: Iterable[str] = ()) -> Path:
    """The folder with a copy of `contents(own)`; made where it is not there yet."""
    files = contents(own)
    folder = place_of(runs, files)
    if folder.is_dir():
        if all(
            (folder / name).is_file() and (folder / name).read_bytes() == content for name, content in files.items()
        ):
            return folder
        shutil.rmtree(folder)  # the disk lost a part of it
    beside = make_folder(folder.parent) / f".{folder.name}.{secrets.token_hex(4)}"
    for name, content in files.items():
        file = beside / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    write_json(beside / "provenance.json", provenance())
    try:
        os.rename(beside, folder)
    except OSError:  # another submit was faster
        shutil.rmtree(beside, ignore_errors=True)
    return folder
