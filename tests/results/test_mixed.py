"""Cells that pool runs which differ in more than the table says."""

from types import SimpleNamespace

import pytest

from medvq.config.locate import known
from medvq.config.resolve import load_study
from medvq.config.study import Table
from medvq.config.tables import in_scope
from medvq.results.cells import _mixed, axis_value


def entry(job="fit", **values):
    return SimpleNamespace(job=job, values={axis.replace("__", "."): v for axis, v in values.items()})


def table(over):
    return Table(rows="job", columns="data.subset", value="test/accuracy", over=over)


def test_what_differs_within_a_cell_beside_the_axis_that_is_named():
    seeds = [entry(data__subset=10, train__seed=s) for s in (0, 1)]
    longer = [entry(data__subset=10, train__seed=s, train__epochs=30) for s in (0, 1)]
    assert _mixed(table("train.seed"), [seeds, longer]) == []
    assert _mixed(table("train.seed"), [[*seeds, *longer]]) == ["train.epochs"]
    assert _mixed(table(None), [[*seeds, *longer]]) == [], "it says over runs"


@pytest.mark.parametrize("name", sorted(known("jobs")))
@pytest.mark.parametrize("smoke", [False, True])
def test_no_shipped_table_pools_what_it_does_not_name(name, smoke):
    study = load_study(name, smoke=smoke)
    for made in study.tables.values():
        cells = {}
        for job, points in study.jobs.items():
            for e in (entry(job, **p.values) for p in points if in_scope(made, job, p.values)):
                column = None if made.columns == "metrics" else axis_value(e, made.columns)
                cells.setdefault((axis_value(e, made.rows), column), []).append(e)
        assert _mixed(made, cells.values()) == []
