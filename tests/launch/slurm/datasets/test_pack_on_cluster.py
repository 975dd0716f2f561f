"""Packing in tasks: the same bytes as packing at home, and nothing is done twice, whatever dies."""

import os

import numpy as np
import pytest
from trees import class_folders, put, signature

from medvq.config.profile import Slurm
from medvq.config.recipe import Recipe
from medvq.errors import DataError, MedvqError, StillRunningError, UsageError
from medvq.launch.slurm.datasets.executor import SlurmTasks
from medvq.launch.slurm.datasets.jobs import Submitted, last_attempt, shares
from medvq.launch.slurm.datasets.pack import PackRequest, forget_ended_jobs, submit_pack, wait_for_pack
from medvq.launch.slurm.query import Queued, SilentError
from medvq.shards.pack import examine
from medvq.shards.pack.pack import pack

RECIPE = Recipe(size=(24, 24), shard_samples=50)
ALL = ["examine", "layout", "write", "publish"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("source") / "cells", {"a": 90, "b": 80})


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    dest = tmp_path_factory.mktemp("whole") / "out"
    pack(source, dest, RECIPE, processes=1)
    return signature(dest)


@pytest.fixture
def packing(source, tmp_path, slurm, here):
    """Give the command and let its jobs run; `said` has what it told."""

    def submit(**changed):
        given = {"source": source, "dest": tmp_path / "out", "recipe": RECIPE, "profile": "three", "slurm": slurm}
        found = submit_pack(PackRequest(**{**given, **changed}), submit.said.append, here)
        if isinstance(found, Submitted):
            here.run_all()
        return found

    submit.said, submit.dest = [], tmp_path / "out"
    return submit


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_any_number_of_tasks_makes_the_same_dataset_and_leaves_nothing_beside_it(packing, whole, here, tasks):
    packing(slurm=Slurm(time="1 h", parallel=tasks, cpus_per_node=2))
    assert here.sent == [("examine", tasks, None), ("layout", 1, "1"), ("write", tasks, "2"), ("publish", 1, "3")]
    assert not any(here.codes)
    assert signature(packing.dest) == whole
    assert os.listdir(packing.dest.parent) == ["out"]
    assert packing().unchanged


def test_wait_gives_the_report_of_packing_at_home(packing, source, here, tmp_path):
    packing()
    report, home = wait_for_pack(packing.dest, print), pack(source, tmp_path / "home", RECIPE, processes=1)
    assert vars(report) == {**vars(home), "dataset": str(packing.dest)}


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        (("examine", 1), ALL),
        (("layout", 0), ["layout", "write", "publish"]),
        (("write", 2), ["write", "publish"]),
        (("publish", 0), ["publish"]),
    ],
)
def test_the_same_command_sends_only_what_a_lost_task_left(packing, whole, here, monkeypatch, lost, again):
    here.lost = {lost}
    packing()
    assert not packing.dest.exists()
    with pytest.raises(MedvqError, match="ended before the dataset was whole"):
        wait_for_pack(packing.dest, print)
    here.lost = set()
    if lost[0] != "examine":
        monkeypatch.setattr(examine, "decode", lambda *_: pytest.fail("decoded again"))
    packing()
    assert here.phases == again
    assert [n for phase, n, _ in here.sent if phase == "write"] == {"publish": [], "write": [1]}.get(lost[0], [3])
    assert signature(packing.dest) == whole
    assert os.listdir(packing.dest.parent) == ["out"]
    assert "ended before the dataset was whole" in packing.said[0]


def test_a_task_that_starts_again_goes_on_from_its_log(packing, here, monkeypatch):
    here.lost = {("publish", 0)}
    packing()
    (log, *_) = sorted(packing.dest.parent.glob(".out.packing/parts/examined-*"))
    lines = log.read_text()
    monkeypatch.setattr(examine, "decode", lambda *_: pytest.fail("decoded again"))
    assert here.run(here.folder / "examine_0.pkl") == 0
    assert log.read_text() == lines
    log.write_text(lines[: len(lines) // 2])  # torn
    monkeypatch.undo()
    assert here.run(here.folder / "examine_0.pkl") == 0
    assert log.read_text().splitlines()[-1] == lines.splitlines()[-1]


def test_bad_samples_are_told_as_at_home_and_skipped_on_demand(packing, source, here, tmp_path):
    put(source / "a" / "bad.png", b"no image")
    try:
        with pytest.raises(DataError) as home:
            pack(source, tmp_path / "home", RECIPE, processes=1)
        packing()
        assert here.codes == [0, 0, 0, 5, 1, 1, 1, 1]
        for tell in (packing, lambda: wait_for_pack(packing.dest, print)):
            with pytest.raises(DataError) as there:
                tell()
            assert str(there.value) == str(home.value)
        packing(on_bad="skip")
        assert here.phases == ["layout", "write", "publish"]
        pack(source, tmp_path / "home", RECIPE, processes=1, on_bad="skip")
        assert signature(packing.dest) == signature(tmp_path / "home")
    finally:
        (source / "a" / "bad.png").unlink()


def test_a_source_that_changed_is_packed_from_the_beginning(packing, source, here, tmp_path):
    here.lost = {("publish", 0)}
    packing()
    here.lost = set()
    put(source / "a" / "more.png", (source / "b" / "b_000.jpg").read_bytes()[::-1])
    try:
        packing(on_bad="skip")
        assert here.phases == ALL
    finally:
        (source / "a" / "more.png").unlink()


def test_while_its_jobs_wait_or_run_the_command_says_how_far_they_are_and_packing_at_home_is_refused(
    packing, source, here, queue, whole
):
    here.lost = {("write", 1)}
    packing()
    key = last_attempt(packing.dest.parent / ".out.packing/jobs/jobs.json").key
    queue["12_1"] = Queued(id="12_1", comment=f"{key}:write", state="RUNNING", reason="", nodes="n1", left="")
    with pytest.raises(
        StillRunningError, match=r"images examined, \d shards written; SLURM jobs 12 \(write: 1 running\)"
    ):
        packing()
    with pytest.raises(MedvqError, match="with other options"):
        packing(on_bad="skip")
    with pytest.raises(MedvqError, match="jobs of a cluster pack to this folder"):
        pack(source, packing.dest, RECIPE, processes=1)
    with pytest.raises(MedvqError, match="SLURM jobs pack to this folder"):
        forget_ended_jobs(packing.dest)
    queue.clear()
    forget_ended_jobs(packing.dest)
    pack(source, packing.dest, RECIPE, processes=1)
    assert signature(packing.dest) == whole


def test_jobs_of_another_user_are_left_alone(packing, here):
    if os.geteuid():
        pytest.skip("only root can give a file away")
    here.lost = {("write", 1)}
    packing()
    os.chown(packing.dest.parent / ".out.packing/jobs/jobs.json", 65534, -1)
    with pytest.raises(MedvqError, match="another user"):
        packing()


@pytest.mark.parametrize("error", [MedvqError("SLURM refuses"), SilentError("no answer")])
def test_jobs_that_cannot_be_sent_leave_nothing_unless_slurm_may_have_them(packing, here, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(here, "send", refuse)
    with pytest.raises(type(error)):
        packing(dest=packing.dest.parent / "new/out")
    left = [".out.packing"] if isinstance(error, SilentError) else []
    assert [p.name for p in packing.dest.parent.glob("new/.*")] == left


def test_two_commands_at_once_do_not_mix(packing, here, monkeypatch):
    monkeypatch.setattr("medvq.shards.pack.workspace.PATIENCE", 0.1)
    real = here.send

    def send(*given, **more):
        with pytest.raises(MedvqError, match="another process is packing"):
            packing()
        return real(*given, **more)

    monkeypatch.setattr(here, "send", send)
    packing()
    assert len(here.sent) == 4


def test_a_node_with_other_libraries_refuses(packing, here, monkeypatch):
    monkeypatch.setattr("medvq.launch.slurm.datasets.pack.versions", lambda: {"pillow": "1"})
    packing()
    assert here.codes[:3] == [4, 4, 4]
    with pytest.raises(MedvqError, match="has other libraries"):
        wait_for_pack(packing.dest, print)


def test_the_arrays_of_an_npz_are_packed_too(packing, tmp_path):
    rng = np.random.default_rng(0)
    images = {f"{s}_images": rng.integers(0, 256, (n, 8, 8), dtype=np.uint8) for s, n in (("train", 70), ("val", 9))}
    labels = {f"{s}_labels": np.arange(n)[:, None] % 2 for s, n in (("train", 70), ("val", 9))}
    np.savez(tmp_path / "mnist.npz", **images, **labels)
    packing(source=tmp_path / "mnist.npz", recipe=Recipe())
    pack(tmp_path / "mnist.npz", tmp_path / "home", Recipe(), processes=1)
    assert signature(packing.dest) == signature(tmp_path / "home")


def test_usage_errors_come_before_anything_is_sent(packing, here, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no image"):
        packing(source=tmp_path / "empty")
    assert here.sent == []
    assert os.listdir(packing.dest.parent) == ["empty"]


@pytest.mark.parametrize("count", [0, 1, 5, 16, 17])
@pytest.mark.parametrize("tasks", [1, 3, 16])
def test_shares_are_contiguous_whole_and_even(count, tasks):
    found = [list(range(count))[share] for share in shares(count, tasks)]
    assert len(found) == tasks
    assert [n for share in found for n in share] == list(range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1


LAB = '''
from medvq.shards.image.arrays import npy_bytes
from medvq.shards.source.base import Listing, Source, SourceEntry
import numpy as np

class Grey(Source):
    """As many grey images as the file says."""
    def __init__(self, path, recipe, *, exclude=()):
        self.path, self.recipe = path, recipe
        self.held = {held}
    @classmethod
    def can_open(cls, path, recipe):
        return path.suffix == ".count"
    def listing(self):
        names = [str(i) for i in range(int(self.path.read_text()))]
        return Listing(recipe=self.recipe, images=[SourceEntry(n, 0, fields={{"class": "a"}}) for n in names])
    def read(self, path, size):
        return npy_bytes(np.full((8, 8), int(path), np.uint8))
'''


def grey(tmp_path, monkeypatch, held):
    """A source of the user's own; each test has a module of its own, as modules are kept."""
    monkeypatch.syspath_prepend(tmp_path)
    module = f"lab_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(LAB.format(held=held))
    (tmp_path / "n.count").write_text("70")
    return {"source": tmp_path / "n.count", "recipe": Recipe(container=f"{module}:Grey")}


def test_a_source_of_the_users_own_goes_to_the_nodes_with_its_code(packing, here, tmp_path, monkeypatch):
    given = grey(tmp_path, monkeypatch, "None")
    here.lost = {("publish", 0)}
    packing(**given)
    assert (here.code / f"lab_{tmp_path.name}.py").read_text() == LAB.format(held="None")
    here.lost = set()
    packing(**given)
    pack(given["source"], tmp_path / "home", given["recipe"], processes=1)
    assert signature(packing.dest) == signature(tmp_path / "home")


def test_a_source_that_cannot_be_pickled_is_told_before_anything_is_sent(packing, here, tmp_path, monkeypatch):
    given = grey(tmp_path, monkeypatch, "open(path)")
    with pytest.raises(UsageError, match="Grey cannot be sent to other machines"):
        packing(**given)
    assert here.sent == []
    assert not list(tmp_path.glob(".out*"))


def test_shards_of_another_dataset_are_packed_too(packing, source, tmp_path):
    pack(source, tmp_path / "first", Recipe(shard_samples=40), processes=1)
    packing(source=tmp_path / "first")
    pack(tmp_path / "first", tmp_path / "home", RECIPE, processes=1)
    assert signature(packing.dest) == signature(tmp_path / "home")


def test_tasks_share_one_pickle_of_the_source(packing, here):
    here.lost = {("publish", 0)}
    packing()
    found = [p.name for p in packing.dest.parent.glob(".out.packing/jobs/*.pkl") if b"FolderSource" in p.read_bytes()]
    assert found == ["source.pkl"]


def test_a_path_that_slurm_cannot_write_to_is_refused(tmp_path, slurm):
    with pytest.raises(UsageError, match="path with %"):
        SlurmTasks(slurm, folder=tmp_path / "50%", code=tmp_path, name="n", key="k")
