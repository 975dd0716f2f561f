"""Studies: all problems are reported together with lines and nearest names; defaults, overrides, matrix and needs."""

import pytest

from medvq.config import locate
from medvq.config.resolve import load_study
from medvq.errors import ConfigError, NotFoundError

STUDY = """\
study: tiny
data:
  cells: {dataset: cells, size: 32}
defaults:
  model: {name: svqvae, levels: 1, channels: 8}
  data: {use: cells}
  train: {epochs: 2, batch_size: 8, optimizer: {lr: 1e-3}}
jobs:
  pretrain:
    task: autoencode
  finetune:
    task: classify
    needs: {init: {job: pretrain}}
    matrix: {data.subset: [100, 10], train.seed: [0, 1]}
tables:
  accuracy: {rows: job, columns: data.subset, value: test/accuracy, over: train.seed, where: {job: finetune}}
"""


@pytest.fixture
def write(tmp_path):
    def _write(text=STUDY, name="tiny.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return _write


def problems(path, **options):
    with pytest.raises(ConfigError) as e:
        load_study(path, **options)
    return "\n".join(str(p) for p in e.value.problems)


def test_defaults_are_merged_into_every_job(write):
    study = load_study(write())
    assert [len(points) for points in study.jobs.values()] == [1, 4]
    for points in study.jobs.values():
        assert all(p.model.channels == 8 and p.config.train.optimizer.lr == 1e-3 for p in points)


def test_matrix_goes_through_every_combination_with_the_last_axis_fastest(write):
    values = [tuple(p.values.values()) for p in load_study(write()).jobs["finetune"]]
    assert values == [(100, 0), (100, 1), (10, 0), (10, 1)]


def test_points_stand_beside_the_matrix(write):
    text = STUDY.replace("    matrix: {data", "    points: [{train.seed: 7, data.subset: 50}]\n    matrix: {data")
    assert load_study(write(text)).jobs["finetune"][-1].config.data.subset == 50


def test_jobs_come_after_what_they_need(write):
    start, end = STUDY.split("jobs:\n")
    jobs, tables = end.split("tables:\n")
    first, second = jobs.split("  finetune:\n")
    study = load_study(write(f"{start}jobs:\n  finetune:\n{second}{first}tables:\n{tables}"))
    assert list(study.jobs) == ["pretrain", "finetune"]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("epochs: 2", "epocs: 2", 7, "unknown key 'epocs' (did you mean epochs?)"),
        ("task: autoencode", "task: autoencod", 10, "unknown task 'autoencod' (did you mean autoencode?)"),
        ("levels: 1", "levls: 1", 5, "did you mean levels?"),
        ("name: svqvae", "name: svqva", 5, "unknown model 'svqva' (did you mean svqvae?)"),
        ("job: pretrain", "job: pretran", 13, "no job named 'pretran' (did you mean pretrain?)"),
        ("{init: {job", "{int: {job", 13, "has no role 'int' (did you mean init?)"),
        ("use: cells", "use: cell", 6, "no data named 'cell' (did you mean cells?)"),
        ("value: test/accuracy", "value: test/acuracy", 16, "did you mean test/accuracy?"),
        ("columns: data.subset", "columns: data.subsets", 16, "did you mean data.subset?"),
        ("lr: 1e-3", "lr: fast", 7, "valid number"),
        ("batch_size: 8", "batch_size: 0", 7, "greater than or equal to 1"),
        ("[100, 10]", "[100, 100]", 14, "repeats a value"),
        ("size: 32", "size: no", 3, "size"),
    ],
)
def test_a_mistake_is_told_with_line_and_nearest_name(write, old, new, line, words):
    path = write(STUDY.replace(old, new))
    found = problems(path)
    assert f"{path}:{line}:" in found
    assert words in found


def test_all_mistakes_come_at_once(write):
    text = STUDY.replace("size: 32", "sice: 32").replace("lr: 1e-3", "lr: -1").replace("[0, 1]", "[-1, x]")
    found = problems(write(text.replace("task: autoencode", "task: autoencod")))
    for words in ("'sice'", "not -1", "'autoencod'", "not 'x'"):
        assert words in found


def test_a_circle_of_needs_is_named(write):
    text = STUDY.replace("task: autoencode", "task: autoencode\n    needs: {init: {job: finetune}}")
    assert "pretrain -> finetune -> pretrain" in problems(write(text))


def test_yaml_is_1_2(write):
    text = STUDY.replace("study: tiny", "study: tiny\nabout: no").replace("1e-3", "1e-4")
    study = load_study(write(text))
    assert study.about == "no"
    assert study.jobs["pretrain"][0].config.train.optimizer.lr == 1e-4


def test_broken_yaml_names_the_line(write):
    path = write(STUDY + "a: b: c\n")
    assert f"{path}:17" in problems(path)


def test_merged_keys_are_read_and_their_mistakes_have_a_line(write):
    from medvq.config.yamlfile import parse_yaml

    found = parse_yaml("a: &one {x: 1, y: 2}\nb:\n  - {<<: *one, y: 3}\n", "f.yaml")
    assert found.data["b"] == [{"x": 1, "y": 3}]
    assert found.where(("b", 0, "x")).startswith("f.yaml:3")


def test_a_repeated_key_is_refused(write):
    assert "duplicate" in problems(write(STUDY + "jobs: {}\n"))


class TestSet:
    def test_lays_a_value_over_one_job_or_all(self, write):
        study = load_study(write(), sets=["train.epochs=5", "finetune:train.batch_size=4"])
        assert {p.config.train.epochs for ps in study.jobs.values() for p in ps} == {5}
        assert study.jobs["pretrain"][0].config.train.batch_size == 8
        assert study.jobs["finetune"][0].config.train.batch_size == 4

    def test_replaces_a_matrix_axis(self, write):
        assert len(load_study(write(), sets=["finetune:train.seed=3"]).jobs["finetune"]) == 2
        assert len(load_study(write(), sets=["finetune:train.seed=[3, 4, 5]"]).jobs["finetune"]) == 6

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("nonsense.path=3", "unknown key 'nonsense'"),
            ("train.epocs=3", "did you mean epochs?"),
            ("finetun:train.epochs=3", "did you mean finetune?"),
            ("pretrain:needs.init.job=finetune", "circle"),
        ],
    )
    def test_is_validated_as_the_file_is(self, write, text, words):
        found = problems(write(), sets=[text])
        assert words in found
        assert f"--set {text}" in found


def test_workers_must_divide_the_batch(write):
    assert "3 workers do not divide the batch of 8" in problems(write(), sets=["resources.workers=3"])


def test_another_model_by_name_does_not_inherit_settings(write):
    text = STUDY.replace("task: autoencode", "task: autoencode\n    model: {name: svqvae, levels: 2}")
    assert load_study(write(text)).jobs["pretrain"][0].model.channels == 8


def test_a_job_without_model_takes_that_of_its_start(write):
    text = STUDY.replace("  model: {name: svqvae, levels: 1, channels: 8}\n", "")
    text = text.replace("task: autoencode", "task: autoencode\n    model: {name: svqvae, levels: 1, channels: 4}")
    assert load_study(write(text)).jobs["finetune"][0].model.channels == 4


def test_ambiguous_needs_are_refused(write):
    text = STUDY.replace("task: autoencode", "task: autoencode\n    matrix: {model.beta: [0.1, 0.2]}")
    assert "several runs" in problems(write(text))


def test_needs_match_shared_axes(write):
    text = STUDY.replace("task: autoencode", "task: autoencode\n    matrix: {train.seed: [0, 1]}")
    assert len(load_study(write(text)).jobs["finetune"]) == 4


def test_extends_starts_from_another_study(write):
    write()
    path = write("study: other\nextends: tiny\ndefaults: {train: {epochs: 9}}\n", "other.yaml")
    study = load_study(path)
    assert study.name == "other"
    assert study.jobs["pretrain"][0].config.train.epochs == 9
    circle = write("study: a\nextends: b\n", "a.yaml")
    write("study: b\nextends: a\n", "b.yaml")
    assert "circle" in problems(circle)


def test_smoke_is_laid_over_and_has_a_folder_of_its_own(write):
    study = load_study(write(STUDY + "smoke: {defaults: {train: {epochs: 1}}}\n"), smoke=True)
    assert study.name == "tiny-smoke"
    assert study.jobs["finetune"][0].config.train.epochs == 1


def test_a_missing_study_names_the_nearest(tmp_path):
    with pytest.raises(NotFoundError) as e:
        locate.find("jobs", "quickstrat")
    assert e.value.hint == "did you mean quickstart?"
    with pytest.raises(NotFoundError):
        load_study(tmp_path / "nope.yaml")
