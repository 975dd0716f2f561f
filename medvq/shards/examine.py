"""Look at images one by one: hash, decode, convert, and count their pixels. Runs in worker processes, in parts.

A part is a fixed number of samples. What is converted goes to `part-N.bin`, what was learnt to `part-N.json`, renamed
into place when whole; a part that is there is not done again. A part is a pure function of its files and the recipe.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from medvq.config.recipe import Recipe
from medvq.shards.arrange import Sample
from medvq.shards.bad import BadImage
from medvq.shards.near import looks
from medvq.shards.npz import NpzOrigin
from medvq.shards.origin import Origin
from medvq.shards.pixels import Decoded, decode, decode_mask
from medvq.shards.shape import stored, stored_mask
from medvq.shards.statistics import Sums, sums_of

PART = 64
"""Samples in a part."""


@dataclass
class Payload:
    """The bytes of one member, and where they are to be had."""

    sha256: str
    """Of the source file."""
    length: int
    crc32: int
    kept: bool
    """Whether it is the source file to the byte; else it lies in the part's `.bin`."""
    offset: int = 0
    """In the part's `.bin`."""


@dataclass
class Examined:
    """What is known of one sample."""

    bad: str | None = None
    """Why it cannot enter."""
    image: Payload | None = None
    mask: Payload | None = None
    ext: str = ""
    width: int = 0
    height: int = 0
    channels: int = 0
    sums: Sums = field(default_factory=lambda: Sums(0, [], []))
    rules: list[str] = field(default_factory=list)
    mask_values: list[int] = field(default_factory=list)
    looks: str = ""
    """Perceptual hash, 64 hex digits."""


@dataclass(frozen=True)
class Part:
    """A task: some samples, and where what is found out about them goes."""

    number: int
    samples: list[Sample]
    folder: str
    origin: Origin | NpzOrigin
    recipe: Recipe

    @property
    def stem(self) -> str:
        """The path of its files without suffix."""
        return os.path.join(self.folder, f"part-{self.number:06d}")


def examine_part(part: Part) -> int:
    """Do one part; returns how many samples it has.

    Raises:
        OSError: the staging folder cannot be written.
    """
    temporary = f"{part.stem}.{os.getpid()}.tmp"
    with open(temporary, "wb") as spool:
        found = [_examine(sample, part, spool) for sample in part.samples]
        size = spool.tell()
    os.replace(temporary, part.stem + ".bin")
    Path(temporary).write_text(json.dumps({"spool": size, "samples": found}, default=vars), encoding="utf-8")
    os.replace(temporary, part.stem + ".json")
    return len(found)


def read_part(stem: str) -> list[Examined]:
    """What `examine_part` found out.

    Raises:
        ValueError, KeyError, TypeError, OSError: the part is not there or not whole.
    """
    with open(stem + ".json", encoding="utf-8") as f:
        whole = json.load(f)
    if os.path.getsize(stem + ".bin") != whole["spool"]:
        raise ValueError("the part is torn")
    return [
        Examined(
            **{
                **row,
                "image": Payload(**row["image"]) if row["image"] else None,
                "mask": Payload(**row["mask"]) if row["mask"] else None,
                "sums": Sums(**row["sums"]),
            }
        )
        for row in whole["samples"]
    ]


def _examine(sample: Sample, part: Part, spool: BinaryIO) -> Examined:
    out = Examined()
    try:
        data = part.origin.read(sample.path, sample.size)
        image = decode(data, part.recipe)
        content, out.ext, pixels, out.rules = stored(image, part.recipe)
        out.image = _payload(data, content)
        out.height, out.width = pixels.shape[:2]
        out.channels = 1 if pixels.ndim == 2 else 3
        out.sums = sums_of(pixels, out.image.crc32)
        out.looks = looks(pixels)
        mask_content = _examine_mask(sample, image, part, out) if sample.mask else b""
    except BadImage as e:
        return Examined(bad=str(e))
    _spool(out.image, content, spool)
    if out.mask:
        _spool(out.mask, mask_content, spool)
    return out


def _examine_mask(sample: Sample, image: Decoded, part: Part, out: Examined) -> bytes:
    assert sample.mask is not None
    try:
        data = part.origin.read(sample.mask.path, sample.mask.size)
        mask = decode_mask(data, part.recipe)
        content, pixels, rules = stored_mask(mask, image, part.recipe)
    except (BadImage, ValueError) as e:
        raise BadImage(f"its mask {sample.mask.path}: {e}") from e
    out.mask = _payload(data, content)
    out.mask_values = sorted(set(pixels.ravel().tolist()) if pixels.size < 4096 else _distinct(pixels))
    out.rules = [*out.rules, *(r for r in rules if r not in out.rules)]
    return content


def _distinct(pixels: object) -> list[int]:
    import numpy as np

    return [int(v) for v in np.flatnonzero(np.bincount(np.asarray(pixels).ravel(), minlength=256))]


def _payload(data: bytes, content: bytes) -> Payload:
    return Payload(hashlib.sha256(data).hexdigest(), len(content), zlib.crc32(content), content is data)


def _spool(payload: Payload, content: bytes, spool: BinaryIO) -> None:
    if not payload.kept:
        payload.offset = spool.tell()
        spool.write(content)


def parts_of(samples: list[Sample], folder: Path, origin: Origin | NpzOrigin, recipe: Recipe) -> list[Part]:
    """`samples` in parts, in order."""
    return [Part(i // PART, samples[i : i + PART], str(folder), origin, recipe) for i in range(0, len(samples), PART)]
