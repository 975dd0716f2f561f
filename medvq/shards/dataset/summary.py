"""Describe a dataset for `medvq inspect`: in numbers, and as a sheet of images."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvq.errors import DataError, UsageError
from medvq.shards.dataset.manifest import INDEX, Manifest, read_manifest, split_order
from medvq.shards.sampling.subset import take

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

SUBSETS = (100, 50, 10, 1)
"""Percentages of the train split for which samples are counted."""
MOST_ROWS = 100
"""Largest number of classes on a contact sheet; further classes are left out."""
VERIFY = "run `medvq verify --deep` on the dataset"


def describe(dataset: Path) -> dict[str, Any]:
    """Return the dataset as plain values: {name, digest, samples, classes, splits, subsets, sizes, image, ...}.

    `subset_classes` is {percent: {class: n}} of the train split. `sizes` is [[width, height, n], ...], the most common
    size first.

    Raises:
        NotFoundError: there is no dataset.
        DataError: its manifest is damaged, or its index is, which is read if sizes differ.
    """
    m = read_manifest(Path(dataset))
    train = m.splits.get("train")
    counts = [train.classes[c] for c in m.classes] or [train.samples] if train else []
    subsets = {str(p): list(take(counts, p).values()) for p in SUBSETS} if train else {}
    return {
        "dataset": str(dataset),
        "name": m.name,
        "digest": m.digest,
        "layout": m.layout,
        "samples": m.samples,
        "classes": m.classes,
        "splits": {
            n: {"samples": s.samples, "masks": s.masks, "groups": s.groups, "classes": s.classes}
            for n in split_order(m.splits)
            for s in [m.splits[n]]
        },
        "subsets": {percent: sum(n) for percent, n in subsets.items()},
        "subset_classes": {percent: dict(zip(m.classes, n, strict=False)) for percent, n in subsets.items()},
        "sizes": _sizes(Path(dataset), m),
        "image": {
            "width": m.image.width,
            "height": m.image.height,
            "channels": m.image.channels,
            "store": m.image.store,
        },
        "statistics": {
            "split": m.statistics.split,
            "images": m.statistics.images,
            "mean": m.statistics.mean,
            "std": m.statistics.std,
        },
        "counts": m.counts,
        "conversions": {rule: row["images"] for rule, row in m.conversions.items()},
        "mask_values": m.mask_values,
        "shards": len(m.shards),
        "bytes": sum(s.bytes for s in m.shards),
        "skipped": m.skipped,
        "leaks": {"checked": m.leaks.checked, "found": m.leaks.found, "allowed": m.leaks.allowed},
        "duplicates": m.duplicates,
        "near_duplicates": m.near_duplicates,
        "notes": m.notes,
        "licence": m.licence,
        "source": m.source,
        "cite": m.cite,
    }


def _sizes(dataset: Path, m: Manifest) -> list[list[int]]:
    if m.image.width is not None and m.image.height is not None:
        return [[m.image.width, m.image.height, m.samples]]
    found = _index(dataset, ["width", "height"]).group_by(["width", "height"]).aggregate([([], "count_all")])
    rows = [(r["width"], r["height"], r["count_all"]) for r in found.to_pylist()]
    return [list(row) for row in sorted(rows, key=lambda r: (-r[2], r))]


def _index(dataset: Path, columns: list[str] | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(dataset / INDEX, columns=columns)
    except (OSError, pa.ArrowException) as e:
        raise DataError("the index cannot be read", where=str(dataset / INDEX), hint=VERIFY) from e


def sheet(dataset: Path, png: Path, *, per_class: int = 8, tile: int = 96) -> Path:
    """Write a contact sheet: a row per class with its first samples of each split. Masks are outlined.

    Only the first `MOST_ROWS` classes are drawn.

    Args:
        dataset: the dataset folder.
        png: the file to write.
        per_class: number of samples of each class and split.
        tile: width and height of each sample, in pixels.

    Returns:
        `png`.

    Raises:
        NotFoundError: there is no dataset.
        DataError: a shard is damaged.
        UsageError: the name of the file does not end in `.png`.
    """
    from PIL import Image, ImageDraw

    if png.suffix.lower() != ".png":
        raise UsageError("a contact sheet is a PNG file", where=str(png), hint="give a name that ends in .png")
    dataset = Path(dataset)
    m = read_manifest(dataset)
    rows = _first_rows(dataset, per_class)
    names = (m.classes or ["images"])[:MOST_ROWS]
    splits = split_order(m.splits)
    line, gap = 14, 4
    block = line + tile + gap
    across = len(splits) * (per_class * (tile + gap) + gap * 2)
    page = Image.new("RGB", (across + 120, line + len(names) * block + gap), "white")
    pen = ImageDraw.Draw(page)
    for column, split in enumerate(splits):
        left = 120 + column * (per_class * (tile + gap) + gap * 2)
        pen.text((left, 1), f"{split} ({m.splits[split].samples})", fill="black")
        for label, name in enumerate(names):
            top = line + label * block
            if column == 0:
                pen.text((4, top + tile // 2), _drawable(name, label)[:18], fill="black")
            wanted = [r for r in rows if r["split"] == split and r["label"] in (label, -1)][:per_class]
            for i, row in enumerate(wanted):
                page.paste(_thumbnail(dataset / m.shards[row["shard"]].file, row, tile), (left + i * (tile + gap), top))
    page.save(png)
    return png


def _drawable(name: str, label: int) -> str:
    """Return a class name in ASCII, which is all that Pillow's font has; its label if nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().strip()
    return plain or f"class {label}"


def _first_rows(dataset: Path, per_class: int) -> list[dict[str, Any]]:
    """Return the first rows of every split and class of the index. No Python objects are made of the other rows."""
    import pyarrow.compute as pc

    table = _index(dataset)
    pairs = table.select(["split", "label"]).group_by(["split", "label"]).aggregate([]).to_pylist()
    out: list[dict[str, Any]] = []
    for pair in pairs:
        mine = pc.and_(pc.equal(table["split"], pair["split"]), pc.equal(table["label"], pair["label"]))
        out += table.filter(mine).slice(0, per_class).to_pylist()
    return out


def _thumbnail(shard: Path, row: dict[str, Any], tile: int) -> Image.Image:
    from PIL import Image, ImageChops, ImageFilter

    def read(member: str) -> Image.Image:
        try:
            with shard.open("rb") as f:
                f.seek(row[f"{member}_offset"])
                data = f.read(row[f"{member}_length"])
        except OSError as e:
            raise DataError(f"the shard cannot be read: {e.strerror}", where=str(shard), hint=VERIFY) from e
        try:
            if member == "image" and row["ext"] == "npy":
                import numpy as np

                return Image.fromarray(np.load(io.BytesIO(data), allow_pickle=False))
            return Image.open(io.BytesIO(data))
        except (OSError, ValueError) as e:
            raise DataError(
                "the image does not decode",
                where=f"{shard.name}: {row['key']}",
                hint=VERIFY,
            ) from e

    image = read("image").convert("RGB").resize((tile, tile), Image.Resampling.BILINEAR)
    if row["has_mask"]:
        mask = read("mask").convert("L").point(lambda v: 255 if v else 0).resize((tile, tile), Image.Resampling.NEAREST)
        edge = ImageChops.difference(mask, mask.filter(ImageFilter.MinFilter(3)))
        image.paste((255, 220, 0), (0, 0), edge)
    return image
