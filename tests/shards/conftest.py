"""Small datasets written directly from the description of the format, to test reading without packing."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medvq.shards.dataset.manifest import (
    ImageFacts,
    IndexFile,
    Leaks,
    Manifest,
    ShardFile,
    Split,
    Statistics,
    split_order,
    write_manifest,
)

sys.path.insert(0, str(Path(__file__).parent))


def encode(pixels: np.ndarray, store: str) -> bytes:
    out = io.BytesIO()
    if store == "npy":
        np.save(out, pixels)
    else:
        image = Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
        image.save(out, "JPEG" if store == "jpg" else "PNG")
    return out.getvalue()


def _write_dataset(
    dest: Path,
    *,
    counts: dict[str, Sequence[int]],
    size: tuple[int, int] = (12, 10),
    channels: int = 3,
    store: str = "png",
    masks_every: int = 0,
    seed: int = 0,
    name: str = "tiny",
    shard_samples: int = 7,
    empty_masks: int = 0,
    rename: Callable[[str], str] = lambda key: key,
) -> Path:
    """A dataset of random pixels: `counts` {split: images of each class}; every n-th train image has a mask.

    The first `empty_masks` of these keep nothing.
    """
    dest.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    shards: list[dict[str, object]] = []
    for split in split_order(counts):
        samples = []
        for label, n in enumerate(counts[split]):
            order = rng.permutation(n)
            for i in range(n):
                pixels = rng.integers(0, 256, (*size, channels), dtype=np.uint8)
                mask = None
                if masks_every and split == "train" and i % masks_every == 0:
                    share = 0.5 if i >= empty_masks * masks_every else 0.0
                    mask = encode(np.where(rng.random((*size, 1)) < share, 255, 0).astype(np.uint8), "png")
                key = rename(f"{split}-{label}-{i:05d}")
                samples.append((key, label, encode(pixels, store), mask, int(order[i]) if split == "train" else -1))
        samples.sort(key=lambda s: s[0])
        for start in range(0, len(samples), shard_samples):
            file = f"{split}-{start // shard_samples:06d}.tar"
            with tarfile.open(dest / file, "w", format=tarfile.USTAR_FORMAT) as tar:
                for key, label, image, mask, rank in samples[start : start + shard_samples]:
                    row: dict[str, object] = {"key": key, "split": split, "label": label, "group": None}
                    row |= {"shard": len(shards), "ext": store, "sha256": hashlib.sha256(image).hexdigest()}
                    row |= {"mask_sha256": None if mask is None else hashlib.sha256(mask).hexdigest()}
                    row |= {"width": size[1], "height": size[0], "has_mask": mask is not None, "rank": rank}
                    members = {"image": (store, image), "mask": ("mask.png", mask)}
                    members |= {"cls": ("cls", str(label).encode()), "json": ("json", None)}
                    for member, (ext, data) in members.items():
                        row |= {f"{member}_offset": -1, f"{member}_length": 0, f"{member}_crc32": 0}
                        if data is not None:
                            info = tarfile.TarInfo(f"{key}.{ext}")
                            info.size = len(data)
                            tar.addfile(info, io.BytesIO(data))
                            end = tar.offset - (-len(data) % 512)
                            row |= {f"{member}_offset": end - len(data), f"{member}_length": len(data)}
                            row[f"{member}_crc32"] = zlib.crc32(data)
                    rows.append(row)
            shards.append(_entry(dest / file) | {"split": split, "samples": min(shard_samples, len(samples) - start)})
    pq.write_table(index_table(rows), dest / "index.parquet")
    content = sorted((str(r["sha256"]), str(r["split"]), str(r["label"]), str(r["rank"])) for r in rows)
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    _manifest_of(dest, name, digest, counts, shards, _entry(dest / "index.parquet"), channels, size)
    return dest


def _entry(path: Path) -> dict[str, object]:
    with path.open("rb") as f:
        return {"file": path.name, "bytes": path.stat().st_size, "sha256": hashlib.file_digest(f, "sha256").hexdigest()}


def index_table(rows: list[dict[str, object]]) -> pa.Table:
    text, word = pa.string(), pa.dictionary(pa.int32(), pa.string())
    fields = [("key", text), ("split", word), ("label", pa.int16()), ("group", text), ("shard", pa.int32())]
    for m in ("image", "mask", "cls", "json"):
        fields += [(f"{m}_offset", pa.int64()), (f"{m}_length", pa.int64()), (f"{m}_crc32", pa.uint32())]
    fields += [("ext", word), ("sha256", text), ("mask_sha256", text), ("width", pa.int32()), ("height", pa.int32())]
    fields += [("has_mask", pa.bool_()), ("rank", pa.int32())]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def _manifest_of(
    dest: Path,
    name: str,
    digest: str,
    counts: dict[str, Sequence[int]],
    shards: list,
    index: dict,
    channels: int,
    size: tuple[int, int],
) -> None:
    classes = [f"class{i}" for i in range(max(map(len, counts.values())))]
    splits = {
        s: Split(samples=sum(c), masks=0, groups=None, classes=dict(zip(classes, c, strict=False)))
        for s, c in counts.items()
    }
    manifest = Manifest(
        name=name, digest=digest, recipe={}, layout="", classes=classes, splits=splits,
        counts={}, image=ImageFacts(width=size[1], height=size[0], channels=channels, store=""),
        statistics=Statistics(split="train", images=0, mean=[0.0], std=[1.0]),
        conversions={}, mask_values={}, licence="", source="", cite="",
        shards=[ShardFile(**s) for s in shards], index=IndexFile(**index), skipped=[], ignored=[],
        leaks=Leaks(checked=[], found=[], allowed=False), duplicates=[], notes=[], inputs="", written_by={},
    )  # fmt: skip
    write_manifest(dest, manifest)


@pytest.fixture(scope="session")
def write_dataset() -> Callable[..., Path]:
    """`write_dataset(dest, counts=..., ...)`, see `_write_dataset`."""
    return _write_dataset


@pytest.fixture(scope="session")
def write_manifest_of() -> Callable[..., None]:
    """`write_manifest_of(dest, counts=..., shards=...)` for an index that is already there."""

    def write(dest: Path, *, counts: dict[str, Sequence[int]], shards: list) -> None:
        _manifest_of(dest, "simulated", "0" * 64, counts, shards, _entry(dest / "index.parquet"), 3, (64, 64))

    return write


@pytest.fixture
def tiny_dataset(tmp_path: Path, write_dataset: Callable[..., Path]) -> Path:
    """Two splits, three classes, 12x10 px, a mask on every third train image."""
    return write_dataset(tmp_path / "tiny", counts={"train": (9, 5, 3), "val": (2, 2, 1)}, masks_every=3)
