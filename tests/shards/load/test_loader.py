"""Loading: the same batches in any number of processes and from any step on, and no process or memory left behind."""

import gc
import hashlib
import io
import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medvq.config.recipe import load_recipe
from medvq.errors import DataError, MedvqError, UsageError
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.geometry import resize
from medvq.shards.load.loader import Loader
from medvq.shards.load.view import View, ViewPart
from medvq.shards.pack.pack import pack
from medvq.shards.synth.smear import smear


def view_of(path, *, fit="resize", size=(6, 5), **options):
    """`fit: turn` turns images before windows are cut."""
    turned = {"fit": "crop", "turn": 180.0, "corner": (7, 8, 9)} if fit == "turn" else {"fit": fit}
    return View(parts=(ViewPart(dataset=Dataset.open(path), **turned),), size=size, **options)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, write_dataset):
    return write_dataset(
        tmp_path_factory.mktemp("loader") / "d", counts={"train": (19, 7, 2), "val": (3, 2, 0)}, masks_every=3
    )


def content(batches):
    """Positions, pixels, labels and masks of a batch as bytes, which can be joined over ranks."""
    fields = ("positions", "image", "label", "mask")
    return [tuple(b"" if (x := getattr(b, f)) is None else x.numpy().tobytes() for f in fields) for b in batches]


@settings(deadline=None, max_examples=25)
@given(
    data=st.data(),
    local=st.integers(1, 3),
    world=st.sampled_from([1, 2, 4]),
    processes=st.sampled_from([0, 1, 2]),
    keep=st.sampled_from([0, 1 << 20]),
    balance=st.sampled_from(["none", "class"]),
    limit=st.integers(5, 28),
    fit=st.sampled_from(["resize", "crop", "turn"]),
)
def test_every_world_and_stop_point_gives_the_same_global_batches(
    dataset, data, local, world, processes, keep, balance, limit, fit
):
    view = view_of(dataset, balance=balance, limit=limit, masks=True, fit=fit)
    batch = 4 * local
    whole = content(Loader(view, batch, 7, keep_bytes=0).epoch(1))
    start = data.draw(st.integers(0, len(whole)))
    parts = []
    for rank in range(world):
        with Loader(view, batch, 7, rank=rank, world=world, processes=processes, keep_bytes=keep) as loader:
            parts.append(content(loader.epoch(1, start)))
    joined = [tuple(b"".join(field) for field in zip(*step, strict=True)) for step in zip(*parts, strict=True)]
    assert joined == whole[start:]


@pytest.mark.parametrize("processes", [0, 2])
def test_evaluation_is_every_sample_once_in_any_world(dataset, processes):
    view = view_of(dataset, splits=("train", "val"), balance="class")
    keys: Counter[str] = Counter()
    for rank in range(2):
        with Loader(view, 8, 0, rank=rank, world=2, processes=processes) as loader:
            for batch in loader.evaluate():
                keys.update(batch.keys)
    assert keys == Counter(view.keys())
    assert len(keys) == 33


def test_pixels_are_those_of_the_files(tmp_path, write_dataset):
    path = write_dataset(tmp_path / "d", counts={"train": (5, 3)}, size=(6, 5), masks_every=2)
    view = view_of(path, masks=True)
    data = view.parts[0].dataset
    for batch in Loader(view, 3, 0).evaluate():
        assert batch.image.dtype == torch.uint8
        assert batch.image.shape[1:] == (3, 6, 5)
        for i, position in enumerate(batch.positions.tolist()):
            row = int(view.rows()[1][position])
            with Image.open(io.BytesIO(data.read(row))) as image:
                assert np.array_equal(batch.image[i].permute(1, 2, 0).numpy(), np.asarray(image))
            assert int(batch.label[i]) == int(data.column("label")[row])
            if data.column("has_mask")[row]:
                with Image.open(io.BytesIO(data.read(row, "mask"))) as mask:
                    assert np.array_equal(batch.mask[i, 0].numpy(), np.asarray(mask))
            else:
                assert batch.mask[i].min() == 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(6, 5), (5, 6)])
@pytest.mark.parametrize("processes", [0, 1])
def test_raw_images_come_whole(tmp_path, write_dataset, channels, size, processes):
    path = write_dataset(tmp_path / "d", counts={"train": (5, 3)}, size=(6, 5), store="npy", channels=channels)
    view = view_of(path, size=size, channels=channels)
    data, rows = view.parts[0].dataset, view.rows()[1]
    with Loader(view, 3, 0, processes=processes, keep_bytes=0) as loader:
        for batch in loader.evaluate():
            for image, position in zip(batch.image, batch.positions.tolist(), strict=True):
                stored = np.load(io.BytesIO(data.read(int(rows[position]))))
                assert np.array_equal(image.permute(1, 2, 0).numpy(), resize(stored, size))


def test_masked_copies_are_black_outside_the_mask(tmp_path, write_dataset):
    path = write_dataset(tmp_path / "d", counts={"train": (6,)}, size=(6, 5), masks_every=2)
    view = view_of(path, masks=True, mask_copies=True)
    (batch,) = Loader(view, 9, 0).evaluate()
    by_key = {k: (batch.image[i], batch.mask[i]) for i, k in enumerate(batch.keys)}
    copies = [k for k in by_key if k.endswith("#masked")]
    assert len(copies) == 3
    for key in copies:
        image, mask = by_key[key.removesuffix("#masked")]
        assert torch.equal(by_key[key][0], torch.where(mask >= 128, image, 0))


def test_crops_move_in_training_and_are_centred_in_evaluation(tmp_path, write_dataset):
    path = write_dataset(tmp_path / "d", counts={"train": (4,)}, size=(14, 11), masks_every=1)
    view = view_of(path, fit="crop", size=(6, 5), masks=True)
    full = {p: i for b in Loader(view_of(path, size=(14, 11)), 4, 0).evaluate()
            for p, i in zip(b.positions.tolist(), b.image, strict=True)}  # fmt: skip
    loader = Loader(view, 4, 0)
    (centre,) = loader.evaluate()
    for p, image in zip(centre.positions.tolist(), centre.image, strict=True):
        assert torch.equal(image, full[p][:, 4:10, 3:8])
    windows = set()
    for epoch in range(6):
        (batch,) = loader.epoch(epoch)
        for p, image in zip(batch.positions.tolist(), batch.image, strict=True):
            found = [(y, x) for y in range(9) for x in range(7) if torch.equal(full[p][:, y : y + 6, x : x + 5], image)]
            assert len(found) == 1
            windows.add(found[0])
    assert len(windows) > 10


def test_an_image_smaller_than_the_crop_is_enlarged(tmp_path, write_dataset):
    path = write_dataset(tmp_path / "d", counts={"train": (2,)}, size=(4, 9))
    (batch,) = Loader(view_of(path, fit="crop", size=(8, 8)), 2, 0).epoch(0)
    assert batch.image.shape == (2, 3, 8, 8)


def test_batches_that_are_held_do_not_change(dataset):
    view = view_of(dataset)
    wanted = content(Loader(view, 4, 0).epoch(0))
    with Loader(view, 4, 0, processes=2, keep_bytes=0) as loader:
        for _ in range(2):
            assert content(list(loader.epoch(0))) == wanted  # all held at once
        first, second = loader.epoch(0), loader.epoch(0)
        for _ in wanted:  # two iterators in turns
            assert content([next(first)]) == content([next(second)])


def test_memory_comes_back_when_batches_die(dataset):
    with Loader(view_of(dataset), 4, 0, processes=1, keep_bytes=0) as loader:
        seen = set()
        for epoch in range(3):
            for batch in loader.epoch(epoch):
                seen.add(batch.image.data_ptr())
                del batch
        gc.collect()
        assert len(seen) <= 7  # the ring of slots, again and again, and no copies


def test_an_epoch_left_in_the_middle_does_no_harm(dataset):
    view = view_of(dataset)
    wanted = content(Loader(view, 4, 0).epoch(1))
    with Loader(view, 4, 0, processes=2, keep_bytes=0) as loader:
        for _ in range(5):
            next(loader.epoch(0))
        assert content(loader.epoch(1)) == wanted


@pytest.mark.parametrize("processes", [0, 1])
def test_the_callers_threads_stay_as_they_are(dataset, processes):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Loader(view_of(dataset), 4, 0, processes=processes) as loader:
            list(loader.epoch(0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def reads(monkeypatch):
    """Counts the samples that are read of a dataset."""
    count: Counter[int] = Counter()
    original = Dataset.read_many
    monkeypatch.setattr(
        Dataset,
        "read_many",
        lambda self, rows, member="image": count.update(rows.tolist()) or original(self, rows, member),
    )
    return count


def test_kept_images_are_read_once(dataset, reads):
    loader = Loader(view_of(dataset), 4, 0)
    first = content(loader.epoch(0))
    assert set(reads.values()) == {1}
    assert content(loader.epoch(0)) == first
    assert set(reads.values()) == {1}


def test_resuming_reads_nothing_of_what_went_before(dataset, reads):
    loader = Loader(view_of(dataset), 4, 0, keep_bytes=0)
    list(loader.epoch(2, loader.steps_per_epoch - 2))
    assert reads.total() == 8


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("keep", [0, 1 << 20])
def test_damage_is_reported_from_a_loader_process_too(tmp_path, processes, keep, write_dataset):
    path = write_dataset(tmp_path / "d", counts={"train": (9,)})
    data = Dataset.open(path)
    shard = path / data.manifest.shards[0].file
    raw = bytearray(shard.read_bytes())
    raw[int(data.column("image_offset")[3]) + 50] ^= 255
    shard.write_bytes(raw)
    with (
        Loader(view_of(path), 3, 0, processes=processes, keep_bytes=keep) as loader,
        pytest.raises(DataError, match="differs") as e,
    ):
        list(loader.epoch(0))
    assert "train-0-00003" in e.value.where


def test_a_killed_loader_process_is_an_error_not_a_hang(dataset):
    with Loader(view_of(dataset), 4, 0, processes=1, keep_bytes=0) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        os.kill(loader._workers.pids[0], signal.SIGKILL)
        with pytest.raises(MedvqError, match="ended unexpectedly"):
            list(epoch)


def test_loader_processes_end_with_their_owner(dataset):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        loader = Loader(view_of(dataset), 4, 0, processes=2, keep_bytes=0)
        next(loader.epoch(0))
        os.write(write, " ".join(map(str, loader._workers.pids)).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    pids = [int(p) for p in os.read(read, 100).split()]
    assert len(pids) == 2
    for _ in range(100):
        if not any(alive(p) for p in pids):
            break
        time.sleep(0.05)
    assert not any(alive(p) for p in pids)


def test_closing_is_quick_while_other_processes_hold_the_pipe(dataset):
    loader = Loader(view_of(dataset), 4, 0, processes=1, keep_bytes=0)
    next(loader.epoch(0))
    other = os.fork()
    if other == 0:
        time.sleep(60)
        os._exit(0)
    try:
        start = time.monotonic()
        loader.close()
        assert time.monotonic() - start < 5
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_signals_for_the_whole_job_do_not_end_loader_processes(dataset):
    with Loader(view_of(dataset), 4, 0, processes=2, keep_bytes=0) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        for pid in loader._workers.pids:
            for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                os.kill(pid, name)
        assert len(list(epoch)) == loader.steps_per_epoch - 1


def test_shares_of_a_mixture(tmp_path, write_dataset):
    paths = [write_dataset(tmp_path / n, counts={"train": (20,)}, name=n, seed=i) for i, n in enumerate("ab")]
    parts = tuple(ViewPart(dataset=Dataset.open(p), weight=w) for p, w in zip(paths, (3.0, 1.0), strict=True))
    loader = Loader(View(parts=parts, size=(4, 4), draws=4000), 10, 0)
    assert loader.shares(0) == {"a": pytest.approx(0.75, abs=0.03), "b": pytest.approx(0.25, abs=0.03)}


def test_what_cannot_be_is_refused(dataset):
    view = view_of(dataset)
    with pytest.raises(UsageError, match="do not divide"):
        Loader(view, 6, 0, world=4)
    with pytest.raises(UsageError, match="rank"):
        Loader(view, 6, 0, rank=2, world=2)
    with pytest.raises(UsageError, match="step"):
        Loader(view, 6, 0).epoch(0, 99)


def test_a_packed_tree_loads_with_its_masks(tmp_path):
    smear(tmp_path / "tree", samples=60, size=24)
    pack(tmp_path / "tree", tmp_path / "packed", load_recipe(Path("shards/smear.yaml")), processes=1)
    view = view_of(tmp_path / "packed", size=(24, 24), splits=("all",), masks=True)
    files = {hashlib.sha256(p.read_bytes()).hexdigest(): p for p in (tmp_path / "tree").rglob("data/*/*.*")}
    data, rows = view.parts[0].dataset, view.rows()[1]
    seen = 0
    for batch in Loader(view, 16, 0).evaluate():
        for i, position in enumerate(batch.positions.tolist()):
            row = rows[position : position + 1]
            file = files[data.columns.texts("sha256", row)[0]]
            assert np.array_equal(batch.image[i].permute(1, 2, 0).numpy(), np.asarray(Image.open(file).convert("RGB")))
            assert view.classes[int(batch.label[i])] == file.parent.name
            mask = file.parent.parent.parent / "mask" / file.parent.name / file.name
            assert mask.exists() == bool(data.column("has_mask")[row[0]])
            seen += mask.exists()
            wanted = np.asarray(Image.open(mask).convert("L")) if mask.exists() else np.full((24, 24), 255)
            assert np.array_equal(batch.mask[i, 0].numpy(), wanted)
    assert seen > 0
