"""Stream a packed dataset with the stock webdataset package, for training code that does not use medvq's loader."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from medvq.errors import DataError, MissingError, UsageError, suggest
from medvq.shards.dataset.manifest import Manifest

if TYPE_CHECKING:
    import webdataset as wds


def stream(
    dataset: Path, manifest: Manifest, split: str, *, shuffle: int = 0, seed: int = 0, decode: str | None = "pil"
) -> wds.WebDataset:
    """Return the stock webdataset pipeline over one split. See `medvq.shards.dataset.dataset.Dataset.webdataset`."""
    try:
        import webdataset as wds
    except ImportError as e:
        raise MissingError("webdataset is not installed", hint="pip install webdataset") from e
    shards = _shards_of(dataset, manifest, split)
    if shuffle < 0:
        raise UsageError(f"cannot shuffle {shuffle} samples", hint="give the size of the buffer, or 0")
    specs = wds.autodecode.imagespecs
    if decode is not None and decode not in specs:
        raise UsageError(f"unknown decoder {decode!r}", hint=suggest(decode, specs))
    # `split_by_node` gives every rank its own shards; by default webdataset refuses to run on more than one rank.
    # Without `empty_check=False` a rank or worker that gets no shard would raise an error.
    out = wds.WebDataset(
        shards,
        shardshuffle=len(shards) if shuffle else False,
        detshuffle=bool(shuffle),
        seed=seed,
        nodesplitter=wds.split_by_node,
        empty_check=False,
    )
    if shuffle:
        out = out.compose(wds.detshuffle(shuffle, seed=seed))
    if decode is not None:
        out = out.decode(_ImageHandler(wds.imagehandler(decode)))
    return out


class _ImageHandler:
    """Decodes images with a handler of webdataset, `npy` members too, to arrays that may be written to.

    Stock webdataset leaves `npy` members as plain arrays. Its arrays of images are read-only, of which torch warns.
    """

    def __init__(self, images: Callable[[str, bytes], Any]) -> None:
        self._images = images

    def __call__(self, key: str, data: bytes) -> Any:
        import numpy as np
        from PIL import Image

        if key.rpartition(".")[2].lower() == "npy":
            out = io.BytesIO()
            Image.fromarray(np.load(io.BytesIO(data), allow_pickle=False)).save(out, "BMP")
            key, data = ".bmp", out.getvalue()
        found = self._images(key, data)
        return found.copy() if isinstance(found, np.ndarray) and not found.flags.writeable else found


def _shards_of(dataset: Path, manifest: Manifest, split: str) -> list[str]:
    """Return the absolute paths of a split's shards, once it is certain that all are there and have their size."""
    if split not in manifest.splits:
        raise UsageError(
            f"the dataset has no split {split!r}", where=str(dataset), hint=suggest(split, manifest.splits)
        )
    out = []
    for shard in manifest.shards:
        if shard.split != split:
            continue
        path = str((dataset / shard.file).resolve())
        if urlparse(path).path != path:
            hint = "webdataset takes paths for URLs: rename the folder so that it has no # ? ; or line break"
            raise UsageError("webdataset cannot open the shard", where=path, hint=hint)
        try:
            size = Path(path).stat().st_size
        except OSError as e:
            raise DataError(f"the shard cannot be opened: {e.strerror}", where=path) from e
        if size != shard.bytes:
            what = f"the shard has {size} bytes where the manifest says {shard.bytes}"
            raise DataError(what, where=path, hint="pack the dataset again")
        out.append(path)
    return out
