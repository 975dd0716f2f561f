"""Copies of the code that queued runs use, so that later edits do not change them."""

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
"""The content of each file of a copy, by its path inside."""


def contents(own: Iterable[str] = ()) -> Files:
    """Return the files of a copy: medvq as it is here, and the user's own code.

    Args:
        own: import paths of the user's models and tasks. Installed packages are not copied.
    """
    package = Path(medvq.__file__).parent
    files = {p.relative_to(package.parent): p.read_bytes() for p in sorted(package.rglob("*")) if p.suffix in SUFFIXES}
    for path in sorted(set(own)):
        root = root_of(path)
        if not is_installed(root):
            files |= {f.relative_to(root): f.read_bytes() for f in files_of(path).values()}
    return files


def place_of(runs: Path, files: Files) -> Path:
    """Return the folder of a copy in `.code` of `runs`; its name is a hash of the content."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return runs.resolve() / ".code" / digest.hexdigest()[:16]


def snapshot(runs: Path, own: Iterable[str] = ()) -> Path:
    """Return the folder with a copy of `contents(own)`, and make it if it does not exist."""
    files = contents(own)
    folder = place_of(runs, files)
    if folder.is_dir():
        if all(
            (folder / name).is_file() and (folder / name).read_bytes() == content for name, content in files.items()
        ):
            return folder
        shutil.rmtree(folder)  # a part of it was lost, such as by a power cut
    beside = make_folder(folder.parent) / f".{folder.name}.{secrets.token_hex(4)}"
    for name, content in files.items():
        file = beside / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    write_json(beside / "provenance.json", provenance())
    try:
        os.rename(beside, folder)
    except OSError:  # another process was faster
        shutil.rmtree(beside, ignore_errors=True)
    return folder
