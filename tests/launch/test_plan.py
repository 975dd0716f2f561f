"""Plans: runs, their order and names; what is missing is reported before anything starts."""

import json
import shutil

import pytest

from medvq.config.resolve import load_study
from medvq.config.study import Resources
from medvq.errors import DataError, NotFoundError, UsageError
from medvq.launch.capacity import Capacity, shape_of
from medvq.launch.data import find_data
from medvq.launch.plan import make_plan, record, slug
from medvq.results.cells import fill
from medvq.runs.collect import collect


def test_needs_come_first_and_match_the_shared_axis(planned):
    plan = planned()
    assert [s.job for s in plan.runs] == ["pretrain"] * 2 + ["finetune"] * 4 + ["alone"]
    by_name = {s.run: s for s in plan.runs}
    for spec in plan.runs[2:6]:
        assert by_name[spec.needs["init"].run].values["train.seed"] == spec.values["train.seed"]


def test_names_tell_job_values_and_identity(planned):
    run = planned().runs[2]
    assert run.run == f"finetune-subset100-seed0-{run.identity}"
    assert len({s.run for s in planned().runs}) == 7


def test_only_takes_what_it_needs_along(planned):
    assert {s.job for s in planned(only=["finetune"]).runs} == {"pretrain", "finetune"}
    with pytest.raises(NotFoundError) as e:
        planned(only=["finetun"])
    assert "finetune" in e.value.hint


def test_recording_writes_run_json_once(planned):
    plan = planned()
    first = record(plan)
    path = plan.folder_of(plan.runs[0]).spec
    before = path.read_bytes()
    assert record(planned()).number == first.number
    assert path.read_bytes() == before
    facts = json.loads(before)["provenance"]
    assert facts["packages"]["torch"]
    assert {"commit", "diff", "python", "medvq"} <= facts.keys()


def test_planning_writes_nothing(planned, tmp_path):
    planned()
    assert not (tmp_path / "runs").exists()


def test_classes_that_differ_are_refused(planned):
    text = planned.text.replace("size: 32}", "size: 32, classes: [a, b]}")
    with pytest.raises(UsageError, match="classes are basophil"):
        planned(text)


def test_a_missing_dataset_says_how_to_make_one(planned, tmp_path):
    with pytest.raises(NotFoundError) as e:
        planned(data=tmp_path / "nowhere")
    assert "medvq shard" in e.value.hint


def test_a_dataset_without_test_split_is_refused(smear, tmp_path, planned):
    from medvq.config.recipe import Recipe
    from medvq.shards.pack.pack import pack

    tree = tmp_path / "tree"
    shutil.copytree(smear.parent / "tree" / "train" / "data", tree)
    pack(tree, tmp_path / "one-split", Recipe(), processes=1)
    with pytest.raises(UsageError, match=r"no .* images"):
        planned(data=tmp_path / "one-split")


def test_training_images_of_a_needed_run_in_the_test_split_are_a_leak(smear, tmp_path, planned):
    """The training split of the second dataset is the test split of the first."""
    from medvq.config.locate import find
    from medvq.config.recipe import load_recipe
    from medvq.shards.pack.pack import pack

    tree = tmp_path / "tree"
    shutil.copytree(smear.parent / "tree", tree)
    (tree / "train").rename(tree / "kept")
    (tree / "test").rename(tree / "train")
    (tree / "kept").rename(tree / "test")
    shutil.rmtree(tree / "test" / "mask")
    rows = (tree / "patients.csv").read_text().splitlines()
    swap = {"train": "test", "test": "train", "val": "val"}
    out = [rows[0]]
    for row in rows[1:]:
        cells = row.split(",")
        name = next(i for i, c in enumerate(cells) if c.endswith(".png"))
        split = cells[name].split("/")[0]
        cells = [swap.get(c, c) for c in cells]
        cells[name] = cells[name].replace(f"{split}/", f"{swap[split]}/", 1)
        out.append(",".join(cells))
    (tree / "patients.csv").write_text("\n".join(out) + "\n")
    pack(tree, tmp_path / "swapped", load_recipe(find("shards", "smear")), processes=1)
    text = planned.text.replace("data: {cells:", "data: {other: {dataset: swapped, size: 32}, cells:")
    text = text.replace("pretrain: {task: autoencode,", "pretrain: {task: autoencode, data: {use: other},")
    (tmp_path / "s.yaml").write_text(text)
    study = load_study(tmp_path / "s.yaml")
    found = find_data(
        study, study.jobs, given={"cells": str(smear)}, datasets=tmp_path, study_folder=tmp_path / "r", make=None
    )
    with pytest.raises(DataError, match="are in the test split of finetune"):
        make_plan(study, found, runs=tmp_path / "runs")


@pytest.mark.parametrize(
    ("cores", "gpus", "batch", "workers", "shape"),
    [
        (2, 0, 24, "auto", (2, 1)),
        (8, 0, 24, "auto", (8, 1)),
        (16, 0, 24, "auto", (12, 1)),
        (16, 4, 24, "auto", (4, 4)),
        (8, 3, 32, "auto", (2, 4)),
        (2, 0, 7, "auto", (1, 2)),
        (2, 0, 24, 0, (0, 2)),
        (2, 0, 24, 4, (4, 1)),
    ],
)
def test_workers_and_threads_share_the_machine(cores, gpus, batch, workers, shape):
    assert shape_of(Resources(workers=workers), batch, Capacity(cores=cores, gpus=gpus)) == shape


def test_values_in_names_are_safe():
    assert slug("data.subset", 10) == "subset10"
    assert slug("model.beta", 0.25) == "beta0.25"
    assert slug("data.use", "../x y") == "use.._x_y"


POOLED = """\
tables:
  t: {rows: job, columns: data.subset, value: test/accuracy, over: train.seed}
"""


@pytest.mark.parametrize(
    "matrix",
    [
        "matrix: {train.seed: [0, 1]}, points: [{train.seed: 1}]",
        "matrix: {data.subset: [50, 50.0], train.seed: [0, 1]}",
        "points: [{train.seed: 0}, {train.seed: 1}, {train.epochs: 1, train.seed: 1}]",
        "matrix: {resources.loader_processes: [0, 1], train.seed: [0, 1]}",
    ],
)
def test_a_plan_has_one_run_per_identity(planned, matrix):
    text = planned.text.replace("alone: {task: classify}", f"alone: {{task: classify, {matrix}}}")
    plan = planned(text, only=["alone"])
    assert len(plan.runs) == len({s.identity for s in plan.runs}) == 2
    record(plan)
    assert len(collect(plan.folder).entries) == 2


def test_needs_of_a_point_that_is_there_twice_are_not_ambiguous(planned):
    twice = planned.text.replace(
        "matrix: {train.seed: [0, 1]}}", "matrix: {train.seed: [0, 1]}, points: [{train.seed: 1}]}"
    )
    assert len(planned(twice).runs) == 7


def test_two_jobs_of_one_identity_are_one_run_in_both_rows(planned):
    text = planned.text.replace("alone: {task: classify}", "alone: {task: classify}\n  twin: {task: classify}")
    plan = planned(text + POOLED, only=["alone", "twin"])
    record(plan)
    found = collect(plan.folder)
    assert [e.job for e in found.entries] == ["alone"]
    assert "twin" not in found.plan.content["left_out"]
    (entry,) = found.entries
    entry.folder.result.write_text(json.dumps({"metrics": {"test/accuracy": 0.5}}))
    table = fill(collect(plan.folder), "t", found.tables["t"])
    assert table.rows == ["alone", "twin"]
    assert {cell.n for cell in table.cells.values()} == {1}


@pytest.mark.parametrize("left", ["result.json", "events.jsonl"])
def test_a_run_is_found_by_its_identity_under_an_older_name(planned, left):
    first = planned(only=["alone"])
    record(first)
    (first.folder_of(first.runs[0]).path / left).touch()
    renamed = planned.text.replace("alone: {task: classify}", "solo: {task: classify, matrix: {train.seed: [0, 1]}}")
    second = planned(renamed, only=["solo"])
    old, new = second.runs
    assert (old.run, old.job, old.values) == (first.runs[0].run, "solo", {"train.seed": 0})
    assert new.run == f"solo-seed1-{new.identity}"
    record(second)
    assert {e.run for e in collect(second.folder).entries} == {old.run, new.run}


def test_of_two_folders_of_one_identity_the_done_one_is_kept(planned):
    plan = planned(only=["alone"])
    run = plan.runs[0]
    done = plan.folder / f"zz-{run.identity}"
    for folder in (plan.folder_of(run).path, done):
        folder.mkdir(parents=True)
        (folder / "events.jsonl").touch()
    assert planned(only=["alone"]).runs[0].run == run.run
    (done / "result.json").touch()
    assert planned(only=["alone"]).runs[0].run == done.name
