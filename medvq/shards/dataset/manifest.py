"""`manifest.json`: what a dataset holds, as canonical text that contains its own checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medvq.errors import DataError, MissingError, NotFoundError

FORMAT = 1
"""Version of the format that is written. Newer ones are not read."""
MANIFEST, INDEX = "manifest.json", "index.parquet"
INSIDE = 128
"""A mask keeps a pixel if its value there is at least this: of 0, 128, 255 it keeps the last two."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """A split in numbers."""

    samples: int
    masks: int
    groups: int | None
    """Number of groups (patients, lesions); None if samples have none."""
    classes: dict[str, int]
    """Number of samples by class name."""


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A shard."""

    file: str
    split: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """The index."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What all images have in common."""

    width: int | None
    """None if sizes differ."""
    height: int | None
    channels: int
    """1 if all are grey, else 3."""
    store: str
    """The recipe's `store`."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Exact pixel statistics of the split, in 0..1 and per channel, from decoding every image in full.

    Both are made of means over images, mean = E[x] and std = sqrt(E[x²] - E[x]²): every image counts the same, whatever
    its size. If packing encodes to JPEG, the pixels are those before encoding.
    """

    split: str
    """`train`, or `all` if there is no train split."""
    images: int
    mean: list[float]
    std: list[float]


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """Groups and images that occur in several splits."""

    checked: list[str]
    found: list[dict[str, Any]]
    """Leaks: [{kind, splits, value, samples: [path]}]."""
    allowed: bool
    """Whether leaks are allowed and only reported."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest of a dataset; all values are plain JSON."""

    name: str
    digest: str
    """Hash of the content in 64 hex digits: see `medvq.shards.pack.digest.digest_of`."""
    recipe: dict[str, Any]
    """The recipe as used, completed with what was detected."""
    layout: str
    """The layout in words."""
    classes: list[str]
    """Names in label order; empty if nothing is labelled."""
    splits: dict[str, Split]
    """In the order of the shards."""
    counts: dict[str, int]
    """{seen, written, skipped, ignored}: seen is the sum of the others. Masks and tables are not counted."""
    image: ImageFacts
    statistics: Statistics
    conversions: dict[str, dict[str, Any]]
    """{rule: {text, images}}: what was done to pixels, and to how many images."""
    mask_values: dict[str, int]
    """{value: number of masks that have it}."""
    licence: str
    source: str
    cite: str
    shards: list[ShardFile]
    index: IndexFile
    skipped: list[dict[str, str]]
    """[{path, reason}]: bad samples that were left out."""
    ignored: list[dict[str, str]]
    """[{path, reason}]: files that are not samples."""
    leaks: Leaks
    duplicates: list[list[str]]
    """Keys of samples with the same bytes in one split, a list for each such image."""
    near_duplicates: list[dict[str, Any]] = field(default_factory=list)
    """[{keys, splits, bits}]: pairs of samples of different splits that look alike, at most 1000. Only a warning."""
    remarks: dict[str, list[list[str]]] = field(default_factory=dict)
    """{kind: [[key, detail], ...]}: samples with something to know about how they were read, such as dropped pages."""
    guesses: list[dict[str, str]] = field(default_factory=list)
    """[{what, choice, evidence}]: what the recipe did not say and was concluded from the source."""
    notes: list[str]
    """Further notes."""
    inputs: str
    """sha256 over path and content of every file that was used. It tells whether the source is still the same."""
    written_by: dict[str, str]
    """Versions of medvq and of the libraries that decode and encode."""
    format: int = FORMAT
    self: str = field(default="")
    """sha256 of the canonical text without this field."""

    def text(self) -> str:
        """Return the canonical text, which is exactly what the file holds."""
        body = {k: v for k, v in asdict(self).items() if k != "self"}
        return canonical({**body, "self": hashlib.sha256(canonical(body).encode()).hexdigest()})

    @property
    def samples(self) -> int:
        """Number of samples of all splits."""
        return sum(s.samples for s in self.splits.values())


def canonical(value: dict[str, Any]) -> str:
    """Return the canonical JSON text of a manifest's values."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder/manifest.json`."""
    (folder / MANIFEST).write_text(manifest.text(), encoding="utf-8", newline="\n")


def read_manifest(dataset: Path) -> Manifest:
    """Read the manifest of the dataset folder `dataset`.

    Raises:
        NotFoundError: there is no dataset.
        DataError: the manifest was changed since it was written.
        MissingError: it was written by a newer medvq.
    """
    path = Path(dataset) / MANIFEST
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFoundError(
            "no dataset here: it has no manifest.json",
            where=str(dataset),
            hint="make one with `medvq shard SOURCE DEST`",
        ) from e
    damaged = DataError(
        "the manifest is damaged: it is not as it was written",
        where=str(path),
        hint="make the dataset again with `medvq shard`",
    )
    try:
        values = json.loads(raw.decode("utf-8"))
        claimed = values.pop("self")
        body = canonical(values)
        whole = canonical({**values, "self": claimed})
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise damaged from e
    if whole.encode() != raw or hashlib.sha256(body.encode()).hexdigest() != claimed:
        raise damaged
    if values["format"] > FORMAT:
        raise MissingError(
            f"the dataset has format {values['format']}, this medvq reads up to {FORMAT}",
            where=str(path),
            hint="update medvq",
        )
    splits = {name: Split(**values["splits"][name]) for name in split_order(values["splits"])}
    return Manifest(
        **{
            **values,
            "splits": splits,
            "image": ImageFacts(**values["image"]),
            "statistics": Statistics(**values["statistics"]),
            "shards": [ShardFile(**s) for s in values["shards"]],
            "index": IndexFile(**values["index"]),
            "leaks": Leaks(**values["leaks"]),
            "self": claimed,
        }
    )


def split_order(names: Iterable[str]) -> list[str]:
    """Return splits in the order of their shards: train, val, test, then others by name."""
    first = ("train", "val", "test")
    return sorted(names, key=lambda n: (first.index(n) if n in first else len(first), n))
