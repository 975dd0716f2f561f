"""The shipped studies: their published numbers are those of the papers, and a smoke test fills all tables."""

import pytest

from medvq.config.locate import known
from medvq.config.resolve import load_study
from medvq.config.yamlfile import read_yaml

SUBSETS = {"WBC100": 100, "WBC50": 50, "WBC10": 10, "WBC1": 1}


@pytest.fixture(scope="session")
def published(real):
    """The published numbers of a system as they were collected."""
    rows = read_yaml(real.parent / "seeds" / "published.yaml").data["results"]
    return lambda system: [r for r in rows if r["system"] == system]


@pytest.mark.parametrize(
    ("table", "split", "metric", "scale"),
    [
        ("accuracy", "test", "accuracy_percent_best", 100),
        ("accuracy_train", "train", "accuracy_percent_best", 100),
        ("accuracy_best_on_test", "test", "accuracy_best", 1),
        ("accuracy_last", "test", "accuracy_last_epoch", 1),
        ("accuracy_last10", "test", "accuracy_mean_last10", 1),
    ],
)
def test_the_stacked_vqvae_has_every_published_cell(published, table, split, metric, scale):
    wanted = {
        (r["variant"] == "mask", SUBSETS[r.get("trained_on", r["dataset"])]): r["value"] / scale
        for r in published("S0_svqvae")
        if r["split"] == split and r["metric"] == metric
    }
    stated = load_study("svqvae-wbc").tables[table].published
    assert len(stated) == 8
    assert {(p.row, p.column): p.value for p in stated} == pytest.approx(wanted)
    assert all(p.selection and p.source and p.dataset == "raabin-wbc" for p in stated)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(known("jobs")) - {"quickstart"}))
def test_a_smoke_run_fills_every_table(cli, name):
    workers = 1 if name == "svqvae-open" else 0  # the others in this process: Ray's start takes longer than their runs
    cli("run", name, "--smoke", "--workers", workers, timeout=400)
    tables = cli.json("results", f"{name}-smoke")["tables"]
    assert set(tables) == set(load_study(name).tables)
    for table in tables.values():
        assert table["cells"]
        for cell in table["cells"]:
            assert cell["mean"] is not None
            assert cell["missing"] == 0
    assert {r["state"] for r in cli.json("status", f"{name}-smoke")["runs"]} == {"done"}
