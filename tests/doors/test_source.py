"""A package outside medvq adds a container of images, and a recipe names it."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from medvq.config.recipe import Recipe
from medvq.errors import UsageError
from medvq.shards.source.resolve import read_source

RECIPE = "container: outside_lab.sources:Database\nsplits: {make: {test: 0.25}}\non_bad: skip\n"


@pytest.fixture
def lab(tmp_path, cli, package, scans):
    """A folder with the package, a database of 40 scans of 20 patients, and a recipe."""
    package(tmp_path)
    scans(tmp_path / "scans.db", 40, (12, 10), ["a", "b"], cut=7)
    with sqlite3.connect(tmp_path / "scans.db") as database:
        database.execute("INSERT INTO scans VALUES ('scan 40', 12, 10, x'00', NULL, 'p20')")
    (tmp_path / "scans.yaml").write_text(RECIPE)
    return cli


def signature(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_source_of_ones_own_packs_with_labels_groups_and_made_splits(lab):
    found = lab.json("shard", "scans.db", "one", "--recipe", "scans.yaml", "--processes", "2")
    assert (found["seen"], found["written"], found["ignored"]) == (41, 39, 0)
    assert {row["path"]: row["reason"] for row in found["skipped"]} == {
        "scan 40": "nobody has looked at it",
        "scan 7": "its pixels do not fill its size",
    }
    rows = pq.read_table(lab.folder / "one" / "index.parquet").to_pylist()
    splits = {row["group"]: row["split"] for row in rows}
    assert len(splits) == 20
    assert all(splits[row["group"]] == row["split"] for row in rows)
    assert sum(row["split"] == "test" for row in rows) == found["splits"]["test"] > 5
    manifest = json.loads((lab.folder / "one" / "manifest.json").read_text())
    assert manifest["recipe"]["container"] == "outside_lab.sources:Database"
    assert (manifest["name"], manifest["layout"], manifest["classes"]) == ("scans", "a table of scans", ["a", "b"])
    lab("shard", "scans.db", "two", "--recipe", "scans.yaml", "--processes", "1")
    assert signature(lab.folder / "two") == signature(lab.folder / "one")


def test_the_digest_is_of_the_content_and_not_of_the_container(lab):
    with sqlite3.connect(lab.folder / "scans.db") as database:
        for name, grey, finding in database.execute("SELECT name, grey, finding FROM scans").fetchall():
            if finding and len(grey) == 120:
                (lab.folder / "tree" / finding).mkdir(parents=True, exist_ok=True)
                # With a suffix of an image, as a folder knows images by it.
                np.save(lab.folder / "tree" / finding / f"{name}.npy", np.frombuffer(grey, np.uint8).reshape(12, 10))
        for path in (lab.folder / "tree").rglob("*.npy"):
            path.rename(path.with_suffix(".png"))
    (lab.folder / "plain.yaml").write_text(RECIPE.replace("splits: {make: {test: 0.25}}", ""))
    with sqlite3.connect(lab.folder / "scans.db") as database:
        database.execute("UPDATE scans SET patient = NULL")
    ours = lab.json("shard", "scans.db", "one", "--recipe", "plain.yaml")
    assert lab.json("shard", "tree", "two")["digest"] == ours["digest"]


def test_a_container_that_does_not_exist_is_exit_2_with_the_line(lab):
    (lab.folder / "scans.yaml").write_text("about: x\n\ncontainer: outside_lab.sources:Datebase\n")
    told = lab("shard", "scans.db", "one", "--recipe", "scans.yaml", code=2).stderr_text
    assert "did you mean Database?" in told
    assert "scans.yaml:3: container" in told


@pytest.mark.parametrize(
    ("named", "source", "words"),
    [
        ("outside_lab.source:Database", "scans.db", "there is no module 'outside_lab.source'"),
        ("webdatset", "scans.db", "unknown container 'webdatset'"),
        ("outside_lab.sources:NotASource", "scans.db", "is not a source: it lacks can_open, listing, read, identify"),
        ("outside_lab.sources:HalfASource", "scans.db", "is not a source: it lacks read"),
        ("outside_lab.sources:Database", "outside_lab", "cannot open the source"),
        ("npz", "scans.db", "the container npz cannot open the source"),
    ],
)
def test_a_container_that_does_not_fit_is_told(lab, monkeypatch, named, source, words):
    monkeypatch.chdir(lab.folder)
    with pytest.raises(UsageError, match=words):
        read_source(Path(source), Recipe(container=named))
