"""Look at images one by one: hash, decode, convert, and count their pixels. Runs in worker processes, in parts.

A part is a fixed number of samples. What is converted goes to `part-N.bin`, renamed into place when whole; what was
learnt is a line of JSON, which the main process adds to its log: a part that is there is not done again. A part is a
pure function of its files and the recipe.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from medvq.config.recipe import Recipe
from medvq.shards.image.bad import BadImage
from medvq.shards.image.decode import Decoded, decode, decode_mask, strict_jpeg
from medvq.shards.image.fit import stored, stored_mask
from medvq.shards.image.glance import Eighths, Glance, glance
from medvq.shards.image.phash import looks
from medvq.shards.image.statistics import Sums, full_decode_every, sums_of
from medvq.shards.image.strip import Piece, kept_pieces
from medvq.shards.source.base import Source, SourceEntry
from medvq.shards.source.samples import Sample

PART = 32
"""Samples in a part."""


class Payload(NamedTuple):
    """The bytes of one member, and where they are to be had."""

    sha256: str
    """Of the source file."""
    length: int
    crc32: int
    pieces: Sequence[Piece] | None
    """Of the source file, that make it; None where it lies in the part's `.bin`."""
    offset: int = 0
    """In the part's `.bin`."""


class Examined(NamedTuple):
    """What is known of one sample."""

    bad: str | None = None
    """Why it cannot enter."""
    image: Payload | None = None
    mask: Payload | None = None
    ext: str = ""
    width: int = 0
    height: int = 0
    channels: int = 0
    sums: Sums = Sums()
    """Of its pixels; empty where only its blocks were made."""
    blocks: Sums = Sums()
    """Of the means of its 8 x 8 blocks, where its bytes pass through."""
    rules: Sequence[str] = ()
    mask_values: Sequence[int] = ()
    highest: int = 0
    """As of `Decoded`."""
    looks: str = ""
    """Perceptual hash, 64 hex digits."""


_BLOCKS = Examined._fields.index("blocks")


@dataclass(frozen=True)
class ExaminedPart:
    """A task: some samples, and where what is found out about them goes."""

    number: int
    samples: list[Sample]
    folder: str
    source: Source
    recipe: Recipe
    every: int
    """Of images whose bytes pass through, one in so many is decoded in full."""


class Spool:
    """A part's `.bin`: a file only if something is written to it."""

    def __init__(self, path: str) -> None:
        self.path, self.size = path, 0
        self._temporary = f"{path}.{os.getpid()}.tmp"
        self._file: BinaryIO | None = None

    def add(self, content: bytes) -> int:
        """Append `content`; returns where it begins."""
        if self._file is None:
            self._file = open(self._temporary, "wb")  # noqa: SIM115 - closed by `close`
        self._file.write(content)
        self.size += len(content)
        return self.size - len(content)

    def close(self) -> None:
        """It is whole."""
        if self._file is not None:
            self._file.close()
            os.replace(self._temporary, self.path)


def spool_of(folder: str, number: int) -> str:
    """The path of a part's `.bin`."""
    return f"{folder}/part-{number:06d}.bin"


def examine_part(part: ExaminedPart) -> str:
    """Do one part; returns a line for the log.

    Raises:
        OSError: the staging folder cannot be written.
    """
    spool, eighths = Spool(spool_of(part.folder, part.number)), Eighths()
    found = [_examine(sample, part, spool, eighths, i) for i, sample in enumerate(part.samples)]
    rows: list[Sequence[Any]] = list(found)
    for i, (blocks, hashed) in eighths.described().items():
        rows[i] = [*found[i][:_BLOCKS], blocks, *found[i][_BLOCKS + 1 : -1], hashed]
    spool.close()
    return json.dumps({"part": part.number, "spool": spool.size, "samples": rows})


def parsed(line: str) -> list[Examined]:
    """What `examine_part` found out."""
    return _examined(json.loads(line))


def known(log: Path, folder: Path) -> dict[int, list[Examined]]:
    """What an earlier packing's log says of parts, by number, if their `.bin` is whole; torn lines say nothing."""
    found: dict[int, list[Examined]] = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        try:
            about = json.loads(line)
            number, size = about["part"], about["spool"]
            if not size or os.path.getsize(spool_of(str(folder), number)) == size:
                found[number] = _examined(about)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _examined(about: dict[str, Any]) -> list[Examined]:
    return [_from_json(*row) for row in about["samples"]]


def _from_json(bad: str | None, image: Any, mask: Any, *rest: Any) -> Examined:
    ext, width, height, channels, sums, blocks, rules, values, highest, hashed = rest
    return Examined(
        bad,
        Payload(*image) if image else None,
        Payload(*mask) if mask else None,
        ext,
        width,
        height,
        channels,
        Sums(*sums),
        Sums(*blocks),
        rules,
        values,
        highest,
        hashed,
    )


def _examine(sample: Sample, part: ExaminedPart, spool: Spool, eighths: Eighths, number: int) -> Examined:
    try:
        data = part.source.read(sample.path, sample.size)
        seen = glance(data, part.recipe) if part.every > 1 and not sample.mask else None
        if seen:
            eighths.add(number, seen.pixels)
            return _examine_kept(data, seen, part, spool)
        image = decode(data, part.recipe)
        content, ext, pixels, rules = stored(image, part.recipe)
        mask = _examine_mask(sample.mask, image, part) if sample.mask else None
    except BadImage as e:
        return Examined(bad=str(e))
    payload = _converted(data, content, image.kept, spool)
    return Examined(
        image=payload,
        mask=_converted(mask.data, mask.content, mask.kept, spool) if mask else None,
        ext=ext,
        width=pixels.shape[1],
        height=pixels.shape[0],
        channels=1 if pixels.ndim == 2 else 3,
        sums=sums_of(pixels, payload.crc32),
        rules=[*rules, *(r for r in mask.rules if r not in rules)] if mask else rules,
        mask_values=mask.values if mask else (),
        highest=image.highest,
        looks=looks(pixels),
    )


def _examine_kept(data: bytes, seen: Glance, part: ExaminedPart, spool: Spool) -> Examined:
    """A JPEG whose bytes pass through: its content draws whether it is also decoded in full, for the statistics."""
    payload = _payload(data, seen.plain.data, seen.plain.pieces, spool)
    drawn = payload.crc32 % part.every == 0
    return Examined(
        image=payload,
        ext="jpg",
        width=seen.plain.width,
        height=seen.plain.height,
        channels=part.recipe.channels or (1 if seen.pixels.ndim == 2 else 3),
        sums=sums_of(strict_jpeg(seen.plain), payload.crc32 // part.every) if drawn else Sums(),
    )


class _Mask(NamedTuple):
    data: bytes
    content: bytes
    kept: bytes | None
    values: list[int]
    rules: list[str]


def _examine_mask(entry: SourceEntry, image: Decoded, part: ExaminedPart) -> _Mask:
    try:
        data = part.source.read(entry.path, entry.size)
        mask = decode_mask(data, part.recipe)
        content, pixels, rules = stored_mask(mask, image, part.recipe)
    except (BadImage, ValueError) as e:
        raise BadImage(f"its mask {entry.path}: {e}") from e
    values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)).tolist()
    return _Mask(data, content, mask.kept, values, rules)


def _converted(data: bytes, content: bytes, plain: bytes | None, spool: Spool) -> Payload:
    """The member `content`, made of the file `data`, of which `plain` would be stored if nothing changed."""
    if content is not plain:
        return _payload(data, content, None, spool)
    return _payload(data, content, ((0, len(data)),) if content is data else kept_pieces(data), spool)


def _payload(data: bytes, content: bytes, pieces: Sequence[Piece] | None, spool: Spool) -> Payload:
    at = spool.add(content) if pieces is None else 0
    return Payload(hashlib.sha256(data).hexdigest(), len(content), zlib.crc32(content), pieces, at)


def parts_of(samples: list[Sample], folder: Path, source: Source, recipe: Recipe) -> list[ExaminedPart]:
    """`samples` in parts, in order."""
    every = full_decode_every(len(samples))
    return [
        ExaminedPart(i // PART, samples[i : i + PART], str(folder), source, recipe, every)
        for i in range(0, len(samples), PART)
    ]
