"""Verifying in tasks finds what verifying at home finds, in the same order."""

import os
import shutil

import pytest
from trees import course

from medvq.config.recipe import Recipe
from medvq.errors import MedvqError, NotFoundError, StillRunningError
from medvq.launch.slurm.datasets.jobs import Submitted, last_attempt
from medvq.launch.slurm.datasets.verify import VerifyRequest, submit_verify, wait_for_verify
from medvq.launch.slurm.query import Queued
from medvq.shards.dataset import verify as at_home
from medvq.shards.pack.pack import pack


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("verify")
    course(root / "wbc", {"train": {"a": 12, "b": 9}, "val": {"a": 4, "b": 3}})
    pack(root / "wbc", root / "out", Recipe(shard_samples=8), processes=1)
    return root / "out"


@pytest.fixture
def dataset(good, tmp_path):
    return shutil.copytree(good, tmp_path / "dataset")


@pytest.fixture
def check(dataset, slurm, here):
    """Give the command and let its jobs run; `said` has what it told."""

    def submit(deep=False):
        request = VerifyRequest(dest=dataset, deep=deep, profile="three", slurm=slurm)
        found = submit_verify(request, submit.said.append, here)
        if isinstance(found, Submitted):
            here.run_all()
        return found

    submit.said = []
    return submit


def damage(dataset):
    for name in ("train-000000.tar", "train-000002.tar"):
        data = bytearray((dataset / name).read_bytes())
        data[600] ^= 1
        (dataset / name).write_bytes(data)
    (dataset / "val-000000.tar").unlink()
    shutil.copy(dataset / "train-000001.tar", dataset / "more.tar")


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("harm", [lambda _: None, damage, lambda dataset: (dataset / "index.parquet").unlink()])
def test_the_command_sends_then_shows_what_verifying_at_home_finds_then_sends_again(check, dataset, here, deep, harm):
    harm(dataset)
    assert isinstance(check(deep), Submitted)
    assert here.sent == [("verify", 3, None)]
    assert not any(here.codes)
    assert check(deep) == at_home.verify(dataset, deep=deep)
    assert check.said[0].startswith("found by the SLURM jobs of 20")
    assert os.listdir(dataset.parent) == ["dataset"]
    assert isinstance(check(deep), Submitted)


def test_waiting_gives_it_too(check, dataset):
    damage(dataset)
    check()
    assert wait_for_verify(dataset, print) == at_home.verify(dataset)
    assert os.listdir(dataset.parent) == ["dataset"]


def test_only_what_a_lost_task_left_is_checked_again(check, dataset, here):
    damage(dataset)
    here.lost = {("verify", 1)}
    check()
    with pytest.raises(MedvqError, match="ended before all was checked"):
        wait_for_verify(dataset, print)
    here.lost = set()
    check()
    assert here.sent == [("verify", 2, None)]
    assert "ended before all was checked" in check.said[0]
    assert check() == at_home.verify(dataset)


def test_a_task_that_starts_again_goes_on_from_its_log(check, dataset, here):
    check()
    (log, *_) = sorted(dataset.parent.glob(".dataset.verifying/found-*"))
    lines = log.read_text()
    assert here.run(here.folder / "verify_0.pkl") == 0
    assert log.read_text() == lines


def test_a_damaged_manifest_needs_no_jobs(check, dataset, here):
    (dataset / "manifest.json").write_text("{}")
    assert check() == at_home.verify(dataset)
    assert here.sent == []
    (dataset / "manifest.json").unlink()
    with pytest.raises(NotFoundError):
        check()


def test_while_jobs_run_the_command_says_so(check, dataset, here, queue):
    here.lost = {("verify", 0)}
    check()
    key = last_attempt(dataset.parent / ".dataset.verifying/jobs.json").key
    queue["7_0"] = Queued(id="7_0", comment=f"{key}:verify", state="PENDING", reason="", nodes="", left="")
    with pytest.raises(StillRunningError, match=r"of 4 shards checked; SLURM jobs 7 \(verify: 1 pending\)"):
        check()
    with pytest.raises(MedvqError, match="with other options"):
        check(deep=True)
    queue.clear()
    check(deep=True)
    assert here.sent == [("verify", 3, None)]


def test_a_dataset_that_was_replaced_is_not_taken_for_the_one_that_was_checked(check, dataset, here, tmp_path):
    here.lost = {("verify", 0)}
    check()
    shutil.rmtree(dataset)
    course(tmp_path / "other", {"train": {"a": 5, "b": 5}, "val": {"a": 4, "b": 3}})
    pack(tmp_path / "other", dataset, processes=1)
    assert here.run(here.folder / "verify_1.pkl") == 5
    here.lost = set()
    assert isinstance(check(), Submitted)
    assert check() == []
