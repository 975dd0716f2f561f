"""A copy of the code that queued runs use, so that later edits do not change them."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from pathlib import Path

import medvq
from medvq.runs.atomic import make_folder, write_json
from medvq.runs.provenance import provenance

SUFFIXES = (".py", ".yaml", ".typed", ".sh")


def snapshot(runs: Path) -> Path:
    """The folder with this medvq, named by its content; it is made where it is not there yet."""
    package = Path(medvq.__file__).parent
    files = {p.relative_to(package.parent): p.read_bytes() for p in sorted(package.rglob("*")) if p.suffix in SUFFIXES}
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
        path = beside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_json(beside / "provenance.json", provenance())
    try:
        os.rename(beside, folder)
    except OSError:  # another submit was faster
        shutil.rmtree(beside, ignore_errors=True)
    return folder
