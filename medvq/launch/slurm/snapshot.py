"""A copy of the code that queued runs use, so that later edits do not change them."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

import medvq
from medvq.config.imported import files_of, is_installed, root_of
from medvq.runs.atomic import make_folder, write_json
from medvq.runs.provenance import provenance

SUFFIXES = (".py", ".yaml", ".typed")


def snapshot(runs: Path, own: Iterable[str] = ()) -> Path:
    """The folder with this medvq and the user's own code, named by its content; made where it is not there yet.

    Args:
        runs: the folder of all runs.
        own: import paths of the user's models and tasks. What is installed stays where it is.
    """
    package = Path(medvq.__file__).parent
    files = {p.relative_to(package.parent): p.read_bytes() for p in sorted(package.rglob("*")) if p.suffix in SUFFIXES}
    for path in sorted(set(own)):
        root = root_of(path)
        if not is_installed(root):
            files |= {f.relative_to(root): f.read_bytes() for f in files_of(path).values()}
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\\0{len(content)}\\0".encode() + content)
    folder = runs.resolve() / ".code" / digest.hexdigest()[:16]
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
