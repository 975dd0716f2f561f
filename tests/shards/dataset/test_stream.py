"""The stock webdataset pipeline over a dataset: every sample once, the same labels and pixels as our reader gives."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from trees import course

from medvq.config.recipe import Recipe
from medvq.errors import DataError, UsageError
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.buffers import Buffers
from medvq.shards.load.reader import Reader
from medvq.shards.load.view import View, ViewPart
from medvq.shards.pack.pack import pack

README = Path(__file__).resolve().parents[3] / "shards" / "README.md"


@pytest.fixture(scope="module", params=["png", "npy"])
def packed(request, tmp_path_factory) -> Path:
    """30 and 20 training images of 16 x 20 px in five shards, some with masks, and four others."""
    folder = tmp_path_factory.mktemp("stream")
    source = course(folder / "wbc", {"train": {"a": 30, "b": 20}, "val": {"a": 2, "b": 2}}, masks_every=2)
    pack(source, folder / "out", Recipe(shard_samples=10, store=request.param), processes=1)
    return folder / "out"


def by_our_reader(dataset: Dataset, split: str) -> dict[str, tuple[np.ndarray, int]]:
    """Pixels and label of every sample of a split by key, as the loader reads them."""
    view = View(parts=(ViewPart(dataset=dataset),), size=(16, 20), splits=(split,))
    images = np.empty((len(view), 16, 20, 3), np.uint8)
    Reader(view).read(range(len(view)), None, Buffers(images, None))
    rows = view.samples.row
    labels = dataset.column("label")[rows]
    return {key: (images[i], int(labels[i])) for i, key in enumerate(dataset.keys(rows))}


def pixels_of(sample: dict) -> object:
    return next(sample[ext] for ext in ("png", "npy") if ext in sample)


def same(found: list[dict], ours: dict[str, tuple[np.ndarray, int]]) -> None:
    assert sorted(s["__key__"] for s in found) == sorted(ours), "each exactly once"
    for sample in found:
        image, label = ours[sample["__key__"]]
        np.testing.assert_array_equal(np.asarray(pixels_of(sample)), image)
        assert sample["cls"] == label


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]):
    """Webdataset warns of settings that it takes for mistakes, and torch of arrays; there must be no such word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("split", "shuffle"), [("train", 0), ("train", 30), ("val", 0)])
def test_each_sample_comes_once_with_our_pixels_and_labels(packed: Path, split: str, shuffle: int) -> None:
    dataset = Dataset.open(packed)
    same(list(dataset.webdataset(split, shuffle=shuffle)), by_our_reader(dataset, split))


def test_two_workers_of_a_dataloader_share_out_the_shards(packed: Path) -> None:
    dataset = Dataset.open(packed)
    stream = dataset.webdataset(shuffle=20, decode="rgb8")
    same(list(DataLoader(stream, batch_size=None, num_workers=2)), by_our_reader(dataset, "train"))
    tuples = dataset.webdataset(decode="torchrgb").to_tuple("png;npy", "cls").batched(8)
    batches = list(DataLoader(tuples, batch_size=None, num_workers=2))
    assert sum(len(labels) for _, labels in batches) == 50
    assert all(image.shape[1:] == (3, 16, 20) and image.dtype == torch.float32 for image, _ in batches)


def test_ranks_share_out_the_shards_and_one_may_get_none(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, n in (("train", 50), ("val", 4)):
        found = []
        for rank in range(2):
            monkeypatch.setenv("RANK", str(rank))
            monkeypatch.setenv("WORLD_SIZE", "2")
            found.append([s["__key__"] for s in Dataset.open(packed).webdataset(split, shuffle=5, decode=None)])
        assert len({*found[0], *found[1]}) == len(found[0]) + len(found[1]) == n
        assert (len(found[1]) == 0) == (split == "val")


def test_the_order_is_of_the_seed_and_the_epoch(packed: Path) -> None:
    def epochs(**how: int) -> list[list[str]]:
        stream = Dataset.open(packed).webdataset(decode=None, **how)
        return [[s["__key__"] for s in stream] for _ in range(2)]

    plain, first, again, other = epochs(), epochs(shuffle=20), epochs(shuffle=20), epochs(shuffle=20, seed=1)
    dataset = Dataset.open(packed)
    rows = np.flatnonzero(dataset.column("split") == dataset.splits.index("train"))
    assert plain == [dataset.keys(rows)] * 2
    assert first == again
    assert first[0] != first[1]
    assert first[0] != other[0] != plain[0]
    assert first[0] != plain[0]
    assert epochs(shuffle=1)[0] != epochs(shuffle=1, seed=1)[0], "shards are shuffled too"


@pytest.mark.parametrize(
    ("decode", "kind", "shape"),
    [
        ("rgb8", "uint8", (16, 20, 3)), ("rgb", "float32", (16, 20, 3)), ("l8", "uint8", (16, 20)),
        ("torchrgb", "torch.float32", (3, 16, 20)), ("torchrgb8", "torch.uint8", (3, 16, 20)),
    ],
)  # fmt: skip
def test_arrays_are_decoded_as_images_are(packed: Path, decode: str, kind: str, shape: tuple[int, ...]) -> None:
    found = pixels_of(next(iter(Dataset.open(packed).webdataset(decode=decode))))
    assert (str(found.dtype), tuple(found.shape)) == (kind, shape)


def test_undecoded_members_are_those_of_the_shard(packed: Path) -> None:
    dataset = Dataset.open(packed)
    for row, sample in enumerate(dataset.webdataset(decode=None)):
        assert pixels_of(sample) == dataset.read(row)
        assert sample["json"] == dataset.read(row, "json")
        assert ("mask.png" in sample) == bool(dataset.column("has_mask")[row])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"split": "trian"}, "no split 'trian'"),
        ({"decode": "rbg8"}, "unknown decoder 'rbg8'"),
        ({"shuffle": -1}, "cannot shuffle"),
    ],
)
def test_what_is_asked_wrongly_is_told(packed: Path, how: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words) as e:
        Dataset.open(packed).webdataset(**how)
    assert e.value.hint


def test_a_missing_or_cut_shard_is_told_before_the_first_sample(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    shard = tiny_dataset / dataset.manifest.shards[0].file
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(DataError, match="bytes where the manifest says"):
        dataset.webdataset()
    shard.unlink()
    with pytest.raises(DataError, match="cannot be opened"):
        dataset.webdataset()
    dataset.webdataset("val")


def test_a_folder_that_webdataset_would_misread_is_told(tmp_path: Path, write_dataset) -> None:
    path = write_dataset(tmp_path / "set #2" / "tiny", counts={"train": (3, 2)})
    with pytest.raises(UsageError, match="webdataset cannot open the shard"):
        Dataset.open(path).webdataset()


def test_the_readme_shows_this_pipeline(packed: Path) -> None:
    import medvq

    names = {"DEST": packed, "medvq": medvq}
    stock, ours = (block.split("```")[0] for block in README.read_text().split("```python\n")[1:3])
    exec(stock, names)
    shown = list(names["stream"])
    exec(ours, names)
    made = list(names["stream"])
    assert [label for _, label in shown] == [label for _, label in made]
    assert len(made) == 50
    for (a, _), (b, _) in zip(shown, made, strict=True):
        np.testing.assert_array_equal(a, b)
