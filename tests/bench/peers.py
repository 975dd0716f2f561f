"""Other loaders, used as their documentation says, giving (B, 3, S, S) uint8 batches of shuffled images.

Every peer has `write(images, folder)`, run once, and `batches(folder, size, processes)`, which returns a function
that starts an epoch. `images` is a list of (bytes of a JPEG, or an (H, W, 3) array; label).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from medvq.errors import MissingError
from medvq.models.vision import import_torchvision

with contextlib.suppress(MissingError):
    import_torchvision()  # from here on plain imports of it work beside a CPU build of torch

BATCH = 32
Images = list[tuple[Any, int]]
Epoch = Callable[[], Iterable[Any]]


def fit(image: Image.Image, size: int) -> torch.Tensor:
    """(3, S, S) uint8: Pillow's antialiased bilinear."""
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def to_tensor(stored: Any, size: int) -> torch.Tensor:
    """A stored image, raw or JPEG, as a tensor."""
    if isinstance(stored, bytes):
        return fit(Image.open(io.BytesIO(stored)), size)
    return torch.from_numpy(np.array(stored)).permute(2, 0, 1)


class Fit:
    """`fit` for one size, picklable."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Any) -> torch.Tensor:
        return fit(image, self.size) if isinstance(image, Image.Image) else to_tensor(image, self.size)


def loader(data: Any, processes: int, kind: Any = None, **options: Any) -> Any:
    kind = kind or torch.utils.data.DataLoader
    return kind(data, num_workers=processes, persistent_workers=processes > 0, **options)


class ImageFolder:
    """torchvision's ImageFolder with torch's DataLoader."""

    @staticmethod
    def write(images: Images, folder: Path) -> None:
        for i, (image, label) in enumerate(images):
            path = folder / str(label) / f"{i:06d}.{'jpg' if isinstance(image, bytes) else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(image, bytes):
                path.write_bytes(image)
            else:
                Image.fromarray(image).save(path)

    @staticmethod
    def batches(folder: Path, size: int, processes: int) -> Epoch:
        from torchvision.datasets import ImageFolder as Folder

        data = loader(Folder(str(folder), transform=Fit(size)), processes, batch_size=BATCH, shuffle=True)
        return lambda: data


class WebDataset:
    """Stock webdataset: eight shards, a shuffle buffer of 1,000."""

    @staticmethod
    def write(images: Images, folder: Path) -> None:
        import webdataset as wds

        folder.mkdir(parents=True)
        with wds.ShardWriter(str(folder / "%06d.tar"), maxcount=-(-len(images) // 8), verbose=0) as out:
            for i, (image, label) in enumerate(images):
                name = "jpg" if isinstance(image, bytes) else "npy"
                out.write({"__key__": f"{i:06d}", name: image, "cls": label})

    @staticmethod
    def batches(folder: Path, size: int, processes: int) -> Epoch:
        import webdataset as wds

        urls = sorted(map(str, folder.glob("*.tar")))
        data = (
            wds.WebDataset(urls, shardshuffle=100).shuffle(1000).decode("pil").to_tuple("jpg;npy", "cls")
            .map_tuple(Fit(size), int).batched(BATCH, partial=True)
        )  # fmt: skip
        made = loader(data, processes, wds.WebLoader, batch_size=None)
        return lambda: made


class Streaming:
    """MosaicML streaming."""

    @staticmethod
    def write(images: Images, folder: Path) -> None:
        from streaming import MDSWriter

        raw = not isinstance(images[0][0], bytes)
        columns = {
            "image": "ndarray:uint8:" + ",".join(map(str, images[0][0].shape)) if raw else "bytes",
            "label": "int",
        }
        with MDSWriter(out=str(folder), columns=columns, size_limit=1 << 22) as out:
            for image, label in images:
                out.write({"image": image, "label": label})

    @staticmethod
    def batches(folder: Path, size: int, processes: int) -> Epoch:
        import streaming
        from streaming.base.util import clean_stale_shared_memory

        class Data(streaming.StreamingDataset):  # type: ignore[misc]
            def __getitem__(self, at: Any) -> Any:
                sample = super().__getitem__(at)
                return to_tensor(sample["image"], size), sample["label"]

        clean_stale_shared_memory()
        data = Data(local=str(folder), shuffle=True, batch_size=BATCH)
        made = loader(data, processes, batch_size=BATCH)
        return lambda: made


class LitData:
    """Lightning's litdata."""

    @staticmethod
    def write(images: Images, folder: Path) -> None:
        import litdata

        global _images
        _images = images
        litdata.optimize(
            fn=_sample, inputs=list(range(len(images))), output_dir=str(folder), num_workers=1, chunk_bytes="4MB",
            start_method="fork",
        )  # fmt: skip

    @staticmethod
    def batches(folder: Path, size: int, processes: int) -> Epoch:
        import litdata

        class Data(litdata.StreamingDataset):  # type: ignore[misc]
            def __getitem__(self, at: Any) -> Any:
                sample = super().__getitem__(at)
                return to_tensor(sample["image"], size), sample["label"]

        data = Data(str(folder), shuffle=True)
        made = loader(data, processes, litdata.StreamingDataLoader, batch_size=BATCH)
        return lambda: made


_images: Images = []


def _sample(index: int) -> dict[str, Any]:
    image, label = _images[index]
    return {"image": image, "label": label}


PEERS = {
    "ImageFolder + DataLoader": ImageFolder,
    "webdataset": WebDataset,
    "MosaicML streaming": Streaming,
    "litdata": LitData,
}
