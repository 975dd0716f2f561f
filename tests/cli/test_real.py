"""The quickstart on a few real images, packed by their recipe, with the eight classes of the dataset."""

import pytest

pytestmark = pytest.mark.slow


def test_real_cells_go_all_the_way(cli, real):
    report = cli.json("shard", real / "pbc/PBC_dataset_normal_DIB", "pbc", "--recipe", "pbc", "--size", "64")
    assert report["seen"] == 1600
    assert {row["path"] for row in report["skipped"]} == {"eosinophil/EO_225902.jpg", "neutrophil/BNE_191112.jpg"}
    assert cli.json("verify", "pbc", "--deep")["ok"]
    small = ["--set", "train.epochs=1", "--set", "data.subset=10", "--workers", "0", "--only", "finetune"]
    small += ["--set", "resources.threads=1"]  # two that wait for each other take minutes where others work as well
    found = cli.json("run", "quickstart", "--data", "cells=pbc", *small)
    assert {r["state"] for r in found["runs"]} == {"done"}
    cells = cli.json("results", "quickstart")["tables"]["accuracy"]["cells"]
    baseline = next(c for c in cells if c["row"] == "majority class")
    assert baseline["mean"] == pytest.approx(1 / 8)
    facts = cli.json("describe", "quickstart", "--data", "cells=pbc")
    assert len(facts["jobs"]["finetune"]["classes"]) == 8


def test_a_flipped_byte_is_found_while_training(cli, real, tmp_path):
    cli("shard", real / "leukemia_all_224/images", "all", "--size", "32", "--on-leak", "report", "--on-bad", "skip")
    shard = next((tmp_path / "all").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[2000] ^= 1
    shard.write_bytes(data)
    assert cli.json("verify", "all", code=5)["problems"]
