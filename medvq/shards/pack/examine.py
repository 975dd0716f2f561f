"""Examine images one by one: hash, decode, convert, and sum up their pixels. Runs in worker processes, in parts.

A part is a fixed number of samples. Converted bytes go to `part-N.bin`, which is renamed into place when it is
complete. The other results are one line of JSON, which the main process appends to its log. A part that is in the log
is not examined again. A part is a pure function of its files and the recipe.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from medvq.config.recipe import Recipe
from medvq.shards.image.bad import BadImage
from medvq.shards.image.decode import Decoded, decode, decode_mask
from medvq.shards.image.fit import stored, stored_mask
from medvq.shards.image.phash import looks
from medvq.shards.image.remarks import Remarks
from medvq.shards.image.statistics import Sums, sums_of
from medvq.shards.image.strip import Kept, Piece
from medvq.shards.source.base import Source, SourceEntry
from medvq.shards.source.samples import Sample

PART = 32
"""Number of samples in a part."""


class Payload(NamedTuple):
    """The bytes of one member of a shard, and where they come from."""

    sha256: str
    """Of the source file."""
    length: int
    crc32: int
    pieces: Sequence[Piece] | None
    """The pieces of the source file that make up the member; None if the member is in the part's `.bin`."""
    offset: int = 0
    """In the part's `.bin`."""


class Examined(NamedTuple):
    """What is known of one sample."""

    bad: str | None = None
    """Why it cannot enter the dataset; None if it can."""
    image: Payload | None = None
    mask: Payload | None = None
    ext: str = ""
    width: int = 0
    height: int = 0
    channels: int = 0
    sums: Sums = Sums()
    rules: Sequence[str] = ()
    mask_values: Sequence[int] = ()
    highest: int = 0
    """As `Decoded.highest`."""
    remarks: Sequence[Sequence[str]] = ()
    """[[kind, detail], ...]: what a person should know, see `medvq.shards.image.remarks.REMARKS`."""
    looks: str = ""
    """Perceptual hash, 64 hex digits; empty if images are not compared."""


@dataclass(frozen=True)
class ExaminedPart:
    """A task: samples to examine, and where the results go."""

    number: int
    samples: list[Sample]
    folder: str
    source: Source
    recipe: Recipe
    compared: bool
    """Whether perceptual hashes are needed, because images of different splits will be compared."""


class Spool:
    """A part's `.bin`. The file is made when the first bytes are added."""

    def __init__(self, path: str) -> None:
        self.path, self.size = path, 0
        self._temporary = f"{path}.{os.getpid()}.tmp"
        self._file: BinaryIO | None = None

    def add(self, content: bytes) -> int:
        """Append `content` and return its offset."""
        if self._file is None:
            self._file = open(self._temporary, "wb")  # noqa: SIM115 - closed by `close`
        self._file.write(content)
        self.size += len(content)
        return self.size - len(content)

    def close(self) -> None:
        """Rename the file into place."""
        if self._file is not None:
            self._file.close()
            os.replace(self._temporary, self.path)


def spool_of(folder: str, number: int) -> str:
    """Return the path of a part's `.bin`."""
    return f"{folder}/part-{number:06d}.bin"


def examine_part(part: ExaminedPart) -> str:
    """Examine one part and return its line for the log.

    Raises:
        OSError: the workspace cannot be written.
    """
    spool = Spool(spool_of(part.folder, part.number))
    found = [_examine(sample, part, spool) for sample in part.samples]
    spool.close()
    return json.dumps({"part": part.number, "spool": spool.size, "samples": found})


def parsed(line: str) -> list[Examined]:
    """Return the results in a line that `examine_part` made."""
    return _examined(json.loads(line))


def known(logs: Iterable[Path], folder: Path) -> dict[int, list[Examined]]:
    """Return the results in the logs of earlier packings, by part number.

    Parts whose `.bin` is incomplete and torn lines of a log are left out.
    """
    found: dict[int, list[Examined]] = {}
    for line in (line for log in logs for line in log.read_text(encoding="utf-8").splitlines()):
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
    ext, width, height, channels, sums, rules, values, highest, remarks, hashed = rest
    return Examined(
        bad,
        Payload(*image) if image else None,
        Payload(*mask) if mask else None,
        ext,
        width,
        height,
        channels,
        Sums(*sums),
        rules,
        values,
        highest,
        remarks,
        hashed,
    )


def _examine(sample: Sample, part: ExaminedPart, spool: Spool) -> Examined:
    try:
        data = part.source.read(sample.path, sample.size)
        image = decode(data, part.recipe)
        content, ext, pixels, rules = stored(image, part.recipe)
        mask = _examine_mask(sample.mask, image, part) if sample.mask else None
    except BadImage as e:
        return Examined(bad=str(e))
    return Examined(
        image=_payload(data, content, image.kept, spool),
        mask=_payload(mask.data, mask.content, mask.kept, spool) if mask else None,
        ext=ext,
        width=pixels.shape[1],
        height=pixels.shape[0],
        channels=1 if pixels.ndim == 2 else 3,
        sums=sums_of(pixels),
        rules=[*rules, *(r for r in mask.rules if r not in rules)] if mask else rules,
        mask_values=mask.values if mask else (),
        highest=image.highest,
        remarks=[[kind, detail] for kind, detail in {**image.remarks, **(mask.remarks if mask else {})}.items()],
        looks=looks(pixels) if part.compared else "",
    )


class _Mask(NamedTuple):
    data: bytes
    content: bytes
    kept: Kept | None
    values: list[int]
    rules: list[str]
    remarks: Remarks


def _examine_mask(entry: SourceEntry, image: Decoded, part: ExaminedPart) -> _Mask:
    try:
        data = part.source.read(entry.path, entry.size)
        mask = decode_mask(data, part.recipe)
        content, pixels, rules = stored_mask(mask, image, part.recipe)
    except (BadImage, ValueError) as e:
        raise BadImage(f"its mask {entry.path}: {e}") from e
    values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)).tolist()
    remarks = {**mask.remarks, "empty mask": ""} if values == [0] else mask.remarks
    return _Mask(data, content, mask.kept, values, rules, remarks)


def _payload(data: bytes, content: bytes, kept: Kept | None, spool: Spool) -> Payload:
    """Describe the member `content`, made from the file `data`; spool it unless it is cut out of the file (`kept`)."""
    pieces = kept.pieces if kept is not None and content is kept.data else None
    offset = spool.add(content) if pieces is None else 0
    return Payload(hashlib.sha256(data).hexdigest(), len(content), zlib.crc32(content), pieces, offset)


def parts_of(samples: list[Sample], folder: Path, source: Source, recipe: Recipe) -> list[ExaminedPart]:
    """Return `samples` in parts, in order."""
    splits = {sample.split for sample in samples} | set(recipe.splits.make)
    compared = len(splits) > 1
    return [
        ExaminedPart(i // PART, samples[i : i + PART], str(folder), source, recipe, compared)
        for i in range(0, len(samples), PART)
    ]
