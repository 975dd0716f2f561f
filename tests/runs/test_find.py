"""Runs are found by their name, or by a prefix of it."""

import pytest

from medvq.errors import NotFoundError, UsageError
from medvq.runs.find import find_run

RUNS = ("fit-subset10-seed0-aaaa", "fit-subset10-seed1-bbbb", "fit-subset100-seed0-cccc", "probe-dddd")


@pytest.fixture
def runs(tmp_path):
    for name in RUNS:
        folder = tmp_path / "study" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("probe", "probe-dddd"),
        ("pro", "probe-dddd"),
        ("fit-subset100", "fit-subset100-seed0-cccc"),
        ("fit-subset10-seed1", "fit-subset10-seed1-bbbb"),
        ("study/fit-subset100-seed0-cc", "fit-subset100-seed0-cccc"),
    ],
)
def test_a_prefix_of_one_run_is_enough(runs, prefix, name):
    assert find_run(prefix, runs).path.name == name


def test_a_prefix_ends_where_a_part_of_the_name_does_if_it_can(runs):
    with pytest.raises(UsageError, match="could be 2 runs") as caught:
        find_run("fit-subset10", runs)
    assert "subset100" not in str(caught.value)
    (runs / "study" / RUNS[1] / "run.json").unlink()
    assert find_run("fit-subset10", runs).path.name == RUNS[0]


def test_a_run_that_is_not_there_is_told_with_the_nearest_name(runs):
    with pytest.raises(NotFoundError, match="no run named 'prbe'"):
        find_run("prbe", runs)
