"""shard, verify, inspect and synth as a user calls them."""

import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image


def test_packing_says_what_kinds_of_files_it_ignored(cli, tmp_path):
    for i in range(3):
        (tmp_path / "s" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 50 * i, np.uint8)).save(tmp_path / "s" / "a" / f"{i}.png")
    for name in ("x.DCM", "y.dcm", "v.nii.gz", "README"):
        (tmp_path / "s" / "a" / name).write_text(name)
    found = cli("shard", tmp_path / "s", "ds").stdout_text
    assert "3 images (train 3), 4 ignored (2 .dcm, 1 .nii.gz), digest" in found
    assert cli.json("shard", tmp_path / "s", "ds")["ignored_kinds"] == {".dcm": 2, ".nii.gz": 1}
    assert "4 ignored, digest" in cli("shard", tmp_path / "s", "hidden", "--opaque-keys").stdout_text


def test_shard_verify_inspect(cli, smear, tmp_path):
    tree = smear.parent / "tree"
    report = cli.json("shard", tree, "ds", "--recipe", "smear")
    assert report["seen"] == report["written"] + report["ignored"] + len(report["skipped"])
    assert report["written"] == 120
    assert set(report["splits"]) == {"train", "val", "test"}
    hidden = cli.json("shard", tree, "hidden", "--recipe", "smear", "--store", "npy", "--size", "16", "--opaque-keys")
    assert hidden["written"] == 120
    assert not re.search(rb"P\d{3}_\d{4}", b"".join(p.read_bytes() for p in (tmp_path / "hidden").iterdir()))
    assert "layout" in cli("shard", tree, "none", "--dry-run").stdout_text
    told = cli.json("shard", tree, "none", "--dry-run", "--recipe", "smear")
    assert (told["seen"], told["samples"], told["bad"], told["masks"]) == (
        report["seen"], 120, [], "{split}/mask/{class}/{name}"
    )  # fmt: skip
    assert {name: found["samples"] for name, found in told["splits"].items()} == report["splits"]
    assert {n for found in told["splits"].values() for n in found["classes"]} == set(told["classes"])
    assert told["splits"]["train"]["groups"] >= 3
    assert told["ignored"] == [{"path": "README.txt", "reason": "not an image"}]
    assert told["layout"] in told["text"]
    detected = cli.json("shard", tree, "none", "--dry-run")
    assert "course layout" in detected["layout"]
    assert (
        "patients.csv names the images (file) and is not used, as labels come from the folders" in detected["notes"][0]
    )
    assert cli.json("verify", "ds", "--deep") == {"ok": True, "problems": []}
    facts = cli.json("inspect", "ds", "--sheet", "sheet.png")
    assert facts["digest"] == report["digest"]
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert "neutrophil" in cli("inspect", "ds").stdout_text
    shard = next((tmp_path / "ds").glob("train-*.tar"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    found = cli.json("verify", "ds", code=5)
    assert not found["ok"]
    assert found["problems"][0]["shard"] == shard.name


def test_shard_says_what_is_worth_knowing_on_stderr(cli, tmp_path):
    def image(path, seed):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)

    for i in range(11):
        for split in ("train", "val"):
            image(tmp_path / "tree" / split / "data" / "a" / f"{split}{i}.png", i)
    image(tmp_path / "tree" / "train" / "data" / "b" / "0.png", 50)
    mask = tmp_path / "tree" / "train" / "mask" / "a" / "train0.png"
    mask.parent.mkdir(parents=True)
    Image.fromarray(np.ones((24, 24), np.uint8)).save(mask)
    found = cli("shard", "tree", "out", "--on-leak", "report")
    assert len(found.stdout_text.splitlines()) == 1
    guessed, *said = found.stderr_text.splitlines()
    assert guessed.startswith('guessed: images: "{split}/data/{class}/{name}" (split folders with class folders')
    assert '; masks: "{split}/mask/{class}/{name}" (1 of 23 images have a mask' in guessed
    assert len(said) == 9
    assert said[0].startswith("leak between splits: the same bytes in train and val: train/data/a/train")
    assert said[-1] == f"and 5 more in {tmp_path / 'out' / 'manifest.json'}"
    for i in range(1, 11):
        (tmp_path / "tree" / "val" / "data" / "a" / f"val{i}.png").unlink()
    found = cli("shard", "tree", "out2", "--on-leak", "report")
    said = [line.split(":")[0] for line in found.stderr_text.splitlines()]
    assert said == ["guessed", "leak between splits", "note", "note"]
    assert "masks hold other values than 0 and 255: 1;" in found.stderr_text
    assert "no mask reaches 128" in found.stderr_text


def test_synth_says_what_it_draws(cli, tmp_path):
    asked = ("synth", "smear", "tree", "--samples", "30", "--size", "16")
    planned = cli.json(*asked, "--dry-run")
    assert "none is drawn yet" in cli(*asked, "--dry-run").stdout_text
    assert list(tmp_path.iterdir()) == []
    assert cli.json(*asked) == planned
    assert (planned["drawn"], sum(s["samples"] for s in planned["splits"].values())) == (30, 30)
    assert cli.json(*asked, "--dry-run") == {**planned, "drawn": 0}
    assert cli(*asked).stdout_text.startswith("tree: 30 images of 16 px (train ")
    cli(*asked[:-1], "17", "--dry-run", code=2)


def test_long_lists_are_cut_and_kept_in_a_file(cli, tmp_path):
    for i in range(12):
        (tmp_path / "s" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / "a" / f"{i:02d}.png").write_bytes(b"junk")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "s" / "a" / "fine.png")
    shutil.copytree(tmp_path / "s", tmp_path / "t")
    for i in range(12):
        (tmp_path / "t" / "a" / f"{i:02d}.png").rename(tmp_path / "t" / "a" / f"{i:02d}.dcm")
    found = cli("shard", "s", "ds", code=5).stderr_text.splitlines()
    assert found[0].endswith("12 of 13 files cannot be packed, and nothing was published")
    assert [line.split(":")[0].strip() for line in found[1:9]] == [f"a/{i:02d}.png" for i in range(8)]
    assert found[9].strip() == "and 4 more in ds.problems.txt"
    assert len((tmp_path / "ds.problems.txt").read_text().splitlines()) == 12
    cli("shard", "s", "ds", "--on-bad", "skip")
    assert not (tmp_path / "ds.problems.txt").exists()
    said = cli("inspect", "ds").stdout_text.splitlines()
    assert sum(line.startswith("skipped") for line in said) == 8
    assert "and 4 more in ds/manifest.json" in said
    assert "... and 7 more: --json has all" in cli("shard", "t", "ds", "--dry-run").stdout_text
    for shard in range(12):
        (tmp_path / "ds" / f"train-0001{shard:02d}.tar").write_bytes(b"")
    told = cli("verify", "ds", code=5).stderr_text
    assert (told.count("knows no such shard"), "and 4 more: --json has all" in told) == (8, True)
    assert len(cli.json("verify", "ds", code=5)["problems"]) == 12


def test_inspect_of_many_classes_stays_usable(cli, tmp_path):
    for i in range(120):
        (tmp_path / "s" / f"c{i:03d}").mkdir(parents=True)
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / "s" / f"c{i:03d}" / "x.png")
    cli("shard", "s", "ds")
    found = cli("inspect", "ds", "--sheet", "sheet.png")
    assert max(map(len, found.stdout_text.splitlines())) < 250
    assert "and 100 more classes: --json has all" in found.stdout_text
    assert "sheet.png shows the first 100 of 120 classes" in found.stderr_text
    assert Image.open(tmp_path / "sheet.png").size[1] < 12000
    assert len(cli.json("inspect", "ds")["classes"]) == 120


def test_the_demo_packs_without_a_word(cli, tmp_path):
    cli("synth", "smear", "tree", "--samples", "150", "--size", "32")
    with_recipe = cli("shard", "tree", "ds", "--recipe", "quickstart")
    assert with_recipe.stderr_text == ""
    detected = cli.json("shard", "tree", "plain")
    assert detected["digest"] == cli.json("inspect", "ds")["digest"], "the dataset of earlier demos"
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert "shard data/smear datasets/smear --recipe shards/quickstart.yaml" in makefile
