"""Little tar shards for the tests of the webdataset source."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trees import encode, pixels

Members = Iterable[tuple[str, bytes | str | tarfile.TarInfo]]


def shard(path: Path, members: Members, *, form: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar file of (name, data); a TarInfo in place of data is written as it is, such as a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            if isinstance(data, tarfile.TarInfo):
                data.name = name
                tar.addfile(data)
                continue
            info = tarfile.TarInfo(name)
            content = data.encode() if isinstance(data, str) else data
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(key: str, seed: int, *, ext: str = "jpg", cls: str | None = None, mask: str = "", **facts: Any) -> Members:
    """The members of one sample; `facts` are its JSON, `mask` the suffix of its mask."""
    kind = {"jpg": "JPEG", "JPEG": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP"}[ext]
    out: list[tuple[str, bytes | str]] = [(f"{key}.{ext}", encode(pixels(seed), kind))]
    if mask:
        out.append((f"{key}.{mask}", encode(pixels(seed, channels=1))))
    if cls is not None:
        out.append((f"{key}.cls", cls))
    if facts:
        out.append((f"{key}.json", json.dumps(facts)))
    return out


def samples(n: int, *, first: int = 0, classes: int = 2, **how: Any) -> Members:
    """`n` samples with a class number each."""
    return [m for i in range(first, first + n) for m in sample(f"s{i:04d}", i, cls=str(i % classes), **how)]
