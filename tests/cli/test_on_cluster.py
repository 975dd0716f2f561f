"""`shard` and `verify` with --profile, as far as they go without a cluster."""

import json

import pytest


@pytest.fixture
def lab(cli):
    (cli.folder / "lab.yaml").write_text(
        "name: lab\nwhere: slurm\n"
        "slurm: {partition: short, time: 30 min, cpus_per_node: 2, memory_gb: 4, parallel: 5}\n"
    )
    return cli


def test_a_dry_run_says_what_would_be_sent_and_writes_nothing(lab, smear):
    said = lab("shard", smear.parent / "tree", "cells", "--profile", "lab.yaml", "--dry-run").stdout_text.splitlines()
    assert said[0] == "name       tree"
    assert said[-5:] == [
        "would send to SLURM, to partition short, 2 cores, 4 GB, 30 min for each task",
        "  <1>      examine  4 tasks",
        "  <2>      layout   1 task, after <1>",
        "  <3>      write    4 tasks, after <2>",
        "  <4>      publish  1 task, after <3>",
    ]
    found = lab.json("shard", smear.parent / "tree", "cells", "--profile", "lab.yaml", "--dry-run")
    assert (found["samples"], found["profile"], found["slurm"]["memory_gb"]) == (120, "lab.yaml", 4)
    assert found["jobs"][0] == {"phase": "examine", "job": "<1>", "tasks": 4, "after": None}
    assert [p.name for p in lab.folder.iterdir()] == ["lab.yaml"]


def test_a_dry_run_of_verify(lab, smear):
    shards = len(list(smear.glob("*.tar")))
    said = lab("verify", smear, "--profile", "lab.yaml", "--dry-run").stdout_text.splitlines()
    assert said[0] == f"shards     {shards}"
    assert said[-1] == f"  <1>      verify   {min(shards + 1, 5)} tasks"
    assert lab.json("verify", smear, "--profile", "lab.yaml", "--dry-run")["shards"] == shards


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("shard", "SOURCE", "cells", "--wait"), "nothing to wait for without --profile"),
        (("verify", "DEST", "--dry-run"), "goes with --profile"),
        (("shard", "SOURCE", "cells", "--profile", "gpu", "--dry-run"), "asks for GPUs"),
        (("shard", "SOURCE", "cells", "--profile", "here"), "is this machine"),
        (("shard", "SOURCE", "cells", "--profile", "lab.yaml", "--on-bad", "x"), "unknown value 'x'"),
    ],
)
def test_what_does_not_go_together_is_refused(lab, smear, command, words):
    given = [{"SOURCE": smear.parent / "tree", "DEST": smear}.get(word, word) for word in command]
    error = json.loads(lab(*given, "--json", code=2).stdout_text)
    assert words in error["error"] or words in error["hint"]
