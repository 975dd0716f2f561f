"""Little source trees for the tests of packing."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image


def pixels(seed: int, size: tuple[int, int] = (16, 20), channels: int = 3) -> np.ndarray:
    """Smooth random pixels (H, W, C) or (H, W), different for every seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(image[..., 0] if channels == 1 else image)


def encode(image: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def picture(path: Path, seed: int, **how: Any) -> Path:
    """An image file, its kind by its suffix."""
    kind = {
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".png": "PNG",
        ".bmp": "BMP",
        ".tif": "TIFF",
        ".webp": "WEBP",
        ".gif": "GIF",
    }
    return put(path, encode(pixels(seed, **how), kind[path.suffix.lower()]))


def class_folders(root: Path, counts: dict[str, int], suffix: str = ".jpg", first: int = 0) -> Path:
    for label, (name, n) in enumerate(counts.items()):
        for i in range(n):
            picture(root / name / f"{name}_{i:03d}{suffix}", first + 1000 * label + i)
    return root


def course(root: Path, counts: dict[str, dict[str, int]], masks_every: int = 3) -> Path:
    """split/data/class and train/mask/class, every third training image with a mask."""
    seed = 0
    for split, classes in counts.items():
        for name, n in classes.items():
            for i in range(n):
                seed += 1
                picture(root / split / "data" / name / f"{name}_{i:03d}.png", seed)
                if split == "train" and i % masks_every == 0:
                    mask = np.zeros((16, 20), np.uint8)
                    mask[4:12, 5 : 10 + i % 5] = 255
                    put(root / split / "mask" / name / f"{name}_{i:03d}.png", encode(mask))
    return root


def rows_of(dataset: Path) -> list[dict[str, Any]]:
    return pq.read_table(dataset / "index.parquet").to_pylist()


def member(dataset: Path, row: dict[str, Any], name: str = "image") -> bytes:
    manifest = json.loads((dataset / "manifest.json").read_text())
    with (dataset / manifest["shards"][row["shard"]]["file"]).open("rb") as f:
        f.seek(row[f"{name}_offset"])
        return f.read(row[f"{name}_length"])


def facts(dataset: Path, row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(member(dataset, row, "json"))


def by_path(dataset: Path) -> dict[str, dict[str, Any]]:
    return {facts(dataset, row)["path"]: row for row in rows_of(dataset)}


def members(dataset: Path) -> list[str]:
    """All tar member names in the order of the shards."""
    manifest = json.loads((dataset / "manifest.json").read_text())
    return [n for s in manifest["shards"] for n in tarfile.open(dataset / s["file"]).getnames()]


def signature(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
