"""How runs share a machine."""

from types import SimpleNamespace

import pytest

from medvq.config.profile import Slurm
from medvq.config.study import Resources
from medvq.errors import MissingError, UsageError
from medvq.launch.capacity import Capacity, check_fit, shape_of, side_by_side


def runs(*needs, workers="auto"):
    """Make runs 0, 1, …, each with the runs that it needs."""
    return [
        SimpleNamespace(
            run=str(i),
            needs={str(n): SimpleNamespace(run=str(n)) for n in needed},
            config=SimpleNamespace(resources=Resources(workers=workers)),
        )
        for i, needed in enumerate(needs)
    ]


ALONE, CHAIN, FAN = [[]], [[], [0], [1]], [[], [0], [0], [0], []]


@pytest.mark.parametrize(
    ("wanted", "todo", "cores", "gpus", "expected"),
    [
        (1, runs(*FAN), 8, 0, 1),
        (3, runs(*FAN), 8, 0, 3),
        (9, runs(*FAN), 2, 0, 2),
        ("auto", runs(*ALONE), 8, 4, 1),
        ("auto", runs(*CHAIN), 8, 4, 1),
        ("auto", runs(*FAN), 8, 4, 3),
        ("auto", runs(*FAN), 2, 0, 2),
        ("auto", runs(*FAN, workers=1), 2, 0, 2),
        ("auto", runs(*FAN, workers=2), 8, 4, 2),
        ("auto", runs(*FAN, workers=8), 8, 4, 1),
    ],
)
def test_runs_side_by_side(wanted, todo, cores, gpus, expected):
    assert side_by_side(wanted, todo, Capacity(cores=cores, gpus=gpus)) == expected


def test_each_gets_its_share():
    assert Capacity(cores=16, gpus=4).shared(2) == Capacity(cores=8, gpus=2)
    assert shape_of(Resources(), 24, Capacity(cores=16, gpus=4).shared(2)) == (2, 4)
    assert shape_of(Resources(workers=1), 24, Capacity(cores=2, gpus=0).shared(2)) == (1, 1)
    assert Capacity(cores=2, gpus=0).shared(4) == Capacity(cores=1, gpus=0)


def test_a_run_may_go_without_gpus_and_may_insist_on_them():
    capacity = Capacity(cores=8, gpus=2)
    assert shape_of(Resources(gpus_per_worker=0), 24, capacity) == (8, 1)
    assert shape_of(Resources(gpus_per_worker=1), 24, capacity) == (2, 4)
    with pytest.raises(MissingError, match="no GPU"):
        shape_of(Resources(gpus_per_worker=1), 24, Capacity(cores=8, gpus=0))
    todo = [*runs([]), *runs([])]
    todo[0].config.resources = Resources(gpus_per_worker=0)
    assert side_by_side(9, todo, capacity) == 2
    assert side_by_side(9, todo[:1], capacity) == 8


def test_more_workers_than_there_is_room_for_are_refused():
    """Ray would wait for them silently."""
    with pytest.raises(UsageError, match="8 workers of one GPU each, and there are 1"):
        shape_of(Resources(workers=8), 24, Capacity(cores=4, gpus=1))
    assert shape_of(Resources(workers=8, gpus_per_worker=0), 24, Capacity(cores=4, gpus=1)) == (8, 1)
    assert shape_of(Resources(workers=4), 24, Capacity(cores=2, gpus=0)) == (4, 1)
    with pytest.raises(UsageError, match="4 workers, and the SLURM job has 2 cores"):
        shape_of(Resources(workers=4), 24, Capacity(cores=2, gpus=0, nodes=1))
    assert side_by_side("auto", [*runs([]), *runs([])], Capacity(cores=8, gpus=0, nodes=1)) == 1


def test_what_a_profile_has_too_little_for_is_told_before_it_is_sent(planned, text):
    plan = planned(text.replace("defaults:", "defaults:\n  resources: {workers: 4}"), only=["alone"])
    check_fit(plan.runs, Slurm(time="1 h", cpus_per_node=2, nodes=2))
    with pytest.raises(UsageError, match="4 workers") as e:
        check_fit(plan.runs, Slurm(time="1 h", cpus_per_node=2))
    assert e.value.where == "job alone"
    plan = planned(text.replace("defaults:", "defaults:\n  resources: {launcher: torchrun}"), only=["alone"])
    with pytest.raises(UsageError, match="one node"):
        check_fit(plan.runs, Slurm(time="1 h", nodes=2))


def test_slots_see_their_own_gpus(monkeypatch):
    from medvq.launch.slots import visible_gpus

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [visible_gpus(i, 2) for i in range(2)] == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-a,7,1")
    assert [visible_gpus(i, 2) for i in range(2)] == ["5,GPU-a", "7,1"]
    assert visible_gpus(0, 0) is None
