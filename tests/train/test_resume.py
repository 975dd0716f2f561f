"""A run that was stopped at any step ends like an undisturbed one, bit for bit."""

import dataclasses
import os
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from medvq.runs.artifacts.predictions import write_predictions
from medvq.runs.owner import Term, claim
from medvq.runs.process import Process
from medvq.runs.state import status_of
from medvq.train import finish, run


@pytest.fixture
def undisturbed(small):
    runs = small("alone")
    assert runs.do() == "done"
    return runs


@pytest.mark.parametrize("stops", [[1], [4, 2], [2, 1, 3]])
def test_stopped_and_started_again(small, undisturbed, stops):
    runs = small("stopped")
    for stop in stops:
        assert runs.do(stop_after=stop) == "stopped"
        assert status_of(runs.folder("pretrain")).state == "stopped"
    assert runs.do() == "done"
    assert runs.left() == undisturbed.left()
    assert status_of(runs.folder("pretrain")).attempts == len(stops) + 1


def test_two_jobs_in_a_row(small):
    alone, stopped = small("alone"), small("stopped")
    for runs in (alone, stopped):
        assert runs.do("finetune") == "blocked"
        runs.do()
    alone.do("finetune")
    rng = random.Random(1)
    while stopped.do("finetune", stop_after=rng.randint(1, 4)) != "done":
        pass
    assert stopped.left("finetune") == alone.left("finetune")


def test_a_damaged_last_checkpoint_costs_time_only(small, undisturbed):
    runs = small("damaged")
    for stop in (2, 2):
        assert runs.do(stop_after=stop) == "stopped"
    last = sorted(runs.folder("pretrain").checkpoints.glob("step-*"))[-1]
    (last / "model.safetensors").write_bytes(b"torn")
    assert runs.do() == "done"
    assert runs.left() == undisturbed.left()


def test_damaged_best_weights_cost_time_only(small, undisturbed):
    runs = small("best")
    runs.do()
    folder = runs.folder("pretrain")
    folder.result.unlink()
    (best,) = folder.checkpoints.glob("best-*")
    (best / "model.safetensors").write_bytes(b"torn")
    assert runs.do() == "done"
    assert runs.left() == undisturbed.left()


def test_killed_between_the_last_checkpoint_and_the_result(small, undisturbed):
    runs = small("late")
    runs.do()
    folder = runs.folder("pretrain")
    folder.result.unlink()
    shutil.rmtree(folder.artifacts)
    assert runs.do() == "done"
    assert runs.left() == undisturbed.left()


def test_a_request_to_stop_counts_from_the_claim_on(small):
    folder = small("requests").folder("pretrain")
    claim(folder.owner, Process.current())
    for seconds, stays in ((-1, False), (1, True)):
        folder.stop.touch()
        then = folder.owner.stat().st_mtime + seconds
        os.utime(folder.stop, (then, then))
        run._drop_old_request(folder)
        assert folder.stop.exists() == stays


def test_taken_over_while_it_writes_its_end_it_leaves_nothing(small, undisturbed, monkeypatch):
    runs = small("ghost")
    folder = runs.folder("pretrain")

    def taken_over(path, columns):
        later = Term(job="7", restart=1)
        claim(folder.owner, dataclasses.replace(Process.current(), pid=1), later)
        folder.progress.write_text("of the later attempt")
        write_predictions(path, columns)

    monkeypatch.setattr(finish, "write_predictions", taken_over)
    assert runs.do(term=Term(job="7", restart=0)) == "busy"
    assert not folder.artifacts.exists()
    assert not folder.result.exists()
    assert folder.progress.read_text() == "of the later attempt"
    monkeypatch.undo()
    assert runs.do(term=Term(job="7", restart=2)) == "done"
    assert runs.left() == undisturbed.left()
    assert not list(folder.path.glob(".artifacts*"))


def test_a_lost_owner_file_costs_no_attempts_number(small):
    runs = small("lost")
    for attempt in (1, 2):
        assert runs.do(stop_after=1) == "stopped"
        assert status_of(runs.folder("pretrain")).attempts == attempt
        runs.folder("pretrain").owner.unlink()


def test_a_done_run_is_not_done_again(undisturbed):
    before = undisturbed.folder("pretrain").result.stat().st_mtime_ns
    assert undisturbed.do() == "done"
    assert undisturbed.folder("pretrain").result.stat().st_mtime_ns == before


def small_keys(dataset):
    return pq.read_table(dataset / "index.parquet", columns=["key"])["key"].to_pylist()


def test_a_failure_is_written_down_with_its_place(small, smear):
    runs = small("bad", sets=["pretrain:train.optimizer.lr=1e30"])
    with pytest.raises(Exception, match=r"finite|NaN|nan"):
        runs.do()
    status = status_of(runs.folder("pretrain"))
    assert status.state == "failed"
    assert "finite" in status.failure["error"]
    keys = status.failure["error"].partition("samples of that batch: ")[2].rstrip(", …").split(", ")
    assert set(keys) <= set(small_keys(smear))
    assert len(keys) == 8
    assert len(status.failure["traceback"]) == 3
    assert "finite" in Path(status.failure["log"]).read_text()


def test_a_dataset_that_changed_is_refused(small):
    runs = small("changed")
    spec = runs.spec("pretrain")
    wrong = {n: ref.model_copy(update={"digest": "0" * 64}) for n, ref in spec.datasets.items()}
    runs.plan = type(runs.plan)(
        study=runs.plan.study, folder=runs.plan.folder, runs=(spec.model_copy(update={"datasets": wrong}),)
    )
    with pytest.raises(Exception, match="dataset has changed"):
        runs.do()
