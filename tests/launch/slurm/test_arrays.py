"""Which runs go to SLURM together, and what they wait for."""

import pytest

from medvq.errors import MissingError
from medvq.launch.slurm.arrays import Array, Wanted, arrays, dependency, indices


def wanted(job, count, needs=lambda i: ()):
    return [Wanted(run=f"{job}{i}", job=job, needs=tuple(needs(i))) for i in range(count)]


def test_equal_runs_are_one_array_split_at_the_limit():
    found = arrays(wanted("a", 7), limit=3)
    assert [list(a.tasks) for a in found] == [[0, 1, 2], [0, 1, 2], [0]]
    assert [r for a in found for r in a.tasks.values()] == [f"a{i}" for i in range(7)]


def test_a_cluster_without_arrays_is_told_so():
    """It was a ValueError of range()."""
    with pytest.raises(MissingError, match="MaxArraySize=0"):
        arrays(wanted("a", 2), limit=0)
    assert arrays([], limit=0) == [], "nothing to send"


def test_runs_that_all_need_one_run_wait_for_it():
    found = arrays([*wanted("a", 1), *wanted("b", 3, lambda i: ["a0"])], limit=10)
    assert found[1] == Array(job="b", tasks={0: "b0", 1: "b1", 2: "b2"}, after=("a0",))
    assert dependency(found[1], ["70"], {"a0": "70_0"}) == "afterok:70_0"


def test_runs_that_need_one_run_each_wait_for_the_same_index():
    found = arrays([*wanted("a", 5), *wanted("b", 5, lambda i: [f"a{4 - i}"])], limit=3)
    assert [a.matching for a in found] == [None, None, 1, 0]
    assert found[3].tasks == {0: "b4", 1: "b3", 2: "b2"}
    assert dependency(found[2], ["70", "71"], {}) == "aftercorr:71"


def test_different_needs_are_different_arrays():
    found = arrays([*wanted("a", 2), *wanted("b", 4, lambda i: [f"a{i // 2}"])], limit=10)
    assert [(a.after, list(a.tasks.values())) for a in found[1:]] == [(("a0",), ["b0", "b1"]), (("a1",), ["b2", "b3"])]


def test_several_needs_and_runs_that_are_queued_already():
    found = arrays(wanted("c", 2, lambda i: ["b0", "a0"]), limit=10)
    assert dependency(found[0], [], {"a0": "70_0", "b0": "71_4"}) == "afterok:70_0:71_4"


@pytest.mark.parametrize(("numbers", "text"), [([0], "0"), ([0, 1, 2], "0-2"), ([5, 1, 2, 9, 8], "1-2,5,8-9")])
def test_indices_as_sbatch_takes_them(numbers, text):
    assert indices(numbers) == text
