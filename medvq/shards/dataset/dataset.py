"""A packed dataset, opened for reading: its manifest, its index as columns, and the bytes of its members.

A dataset can be pickled and forked. A pickle holds its folder and manifest; columns and files are opened again.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medvq.errors import DataError
from medvq.shards.dataset.columns import Columns
from medvq.shards.dataset.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    import webdataset as wds

_OPEN_SHARDS = 128


class Dataset:
    """One dataset folder: `manifest.json`, `index.parquet` and the shards they name."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self.name, self.digest = manifest.name, manifest.digest
        self.classes: tuple[str, ...] = tuple(manifest.classes)
        self.splits: tuple[str, ...] = tuple(sorted(manifest.splits))
        self._columns: Columns | None = None
        self._files: dict[int, int] = {}

    @classmethod
    def open(cls, path: str | Path) -> Dataset:
        """Open the dataset in the folder `path`.

        Raises:
            NotFoundError: there is no dataset.
            DataError: its manifest is damaged.
        """
        return cls(Path(path), read_manifest(Path(path)))

    def __len__(self) -> int:
        return sum(s.samples for s in self.manifest.splits.values())

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} samples, digest {self.digest[:12]})"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the shards that are open. Reading opens them again."""
        for fd in self.__dict__.get("_files", {}).values():
            os.close(fd)
        self._files = {}

    @property
    def columns(self) -> Columns:
        """The index. Each column is read on first use."""
        if self._columns is None:
            index = self.manifest.index
            self._columns = Columns(self.path / index.file, len(self), index.sha256)
        return self._columns

    def column(self, name: str) -> NDArray[Any]:
        """Return a numeric column of the index, of shape (samples,). For `split`, positions in `self.splits`.

        Raises:
            DataError: the index is damaged.
        """
        if name == "split":
            return self.columns.codes("split", self.splits)
        return self.columns.array(name)

    def keys(self, rows: NDArray[np.integer[Any]]) -> list[str]:
        """Return the keys of `rows`."""
        return self.columns.texts("key", rows)

    def read(self, row: int, member: str = "image") -> bytes:
        """Return the bytes of a member (`image`, `mask`, `cls` or `json`) of one sample.

        Raises:
            DataError: the sample has no such member, its shard is missing or cut off, or the bytes are damaged.
        """
        return self.read_many(np.asarray([row]), member)[0]

    def read_many(self, rows: NDArray[np.integer[Any]], member: str = "image") -> list[bytes]:
        """Return the bytes of a member of each of `rows`. See `read`."""
        array = self.columns.array
        wanted = (array(f"{member}_{c}")[rows].tolist() for c in ("offset", "length", "crc32"))
        out = []
        for at, (shard, offset, length, crc32) in enumerate(zip(array("shard")[rows].tolist(), *wanted, strict=True)):
            if offset < 0:
                raise DataError(f"the sample has no {member}", where=self.where(int(rows[at])))
            fd = self._files.get(shard)
            data = os.pread(self._open(shard) if fd is None else fd, length, offset)
            if len(data) != length or zlib.crc32(data) != crc32:
                raise DataError(
                    f"the {member} differs from what was packed",
                    where=self.where(int(rows[at])),
                    hint="run medvq verify, pack again",
                )
            out.append(data)
        return out

    def webdataset(
        self, split: str = "train", *, shuffle: int = 0, seed: int = 0, decode: str | None = "pil"
    ) -> wds.WebDataset:
        """Return the stock webdataset pipeline over one split.

        It yields one dict per sample with `__key__`, the image under `png`, `jpg` or `npy`, the label under `cls` (an
        int; missing if the dataset has no labels), the mask, if any, under `mask.png`, and what is known of the sample
        under `json`. All stages of webdataset can be appended:

        ```python
        train = medvq.open_dataset("datasets/smear").webdataset("train", shuffle=1000, decode="torchrgb")
        loader = DataLoader(train.to_tuple("png;jpg;npy", "cls").batched(32), batch_size=None, num_workers=2)
        ```

        Each sample comes exactly once in an epoch, over all ranks and workers. Ranks (`RANK` and `WORLD_SIZE`, else
        torch.distributed) and workers share out whole shards, so that they get unequal numbers of samples, and none if
        there are fewer shards. Damage within a shard is not noticed; `medvq verify` notices it. `medvq.Loader` has
        neither limit.

        Args:
            split: the split.
            shuffle: samples in the buffer from which each is drawn; the order of shards is shuffled too. 0 keeps the
                order of the files, which mixes the classes.
            seed: the order of an epoch is a function of the seed and of the number of epochs that the pipeline has
                begun in this process. Use `persistent_workers=True` in a DataLoader to have another order each epoch.
            decode: what images and masks become: `pil`, `rgb8` (uint8 array (H, W, 3)), `rgb` (float32 array in
                [0, 1]), `torchrgb` (float32 tensor (3, H, W) in [0, 1]), `l8`, `torchl` and so on for grey, as in
                webdataset. None leaves all members as bytes.

        Raises:
            UsageError: the split or the decoder is unknown.
            DataError: a shard is missing or has another size than its manifest says.
        """
        from medvq.shards.dataset.stream import stream

        return stream(self.path, self.manifest, split, shuffle=shuffle, seed=seed, decode=decode)

    def where(self, row: int) -> str:
        """Return shard and key of a row, for messages."""
        shard = self.manifest.shards[int(self.column("shard")[row])].file
        return f"{self.path / shard} {self.keys(np.asarray([row]))[0]}"

    def _open(self, shard: int) -> int:
        if len(self._files) >= _OPEN_SHARDS:
            os.close(self._files.pop(next(iter(self._files))))
        entry = self.manifest.shards[shard]
        path = self.path / entry.file
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError as e:
            raise DataError(f"the shard cannot be opened: {e.strerror}", where=str(path)) from e
        size = os.fstat(fd).st_size
        if size != entry.bytes:
            os.close(fd)
            raise DataError(
                f"the shard has {size} bytes where the manifest says {entry.bytes}", where=str(path), hint="pack again"
            )
        self._files[shard] = fd
        return fd
