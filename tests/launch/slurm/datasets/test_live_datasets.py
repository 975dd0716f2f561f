"""A dataset is packed and verified on a real SLURM, with tasks that are stopped and taken away."""

import io
import json
import os
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow
PROFILE = """\
name: three
where: slurm
slurm: {time: 10 min, cpus_per_node: 1, memory_gb: 2, grace: 30 s, parallel: 3, requeues: 5}
"""
SIZE = ("--size", 32)
SAMPLES = 192
"""Six parts, so two for each of three tasks."""
LARGE = {0: (40, 50), 1: (104, 110, 115, 120)}
"""Images, by task, that keep it busy in its second part."""


def png(width, value):
    out = io.BytesIO()
    Image.fromarray(np.full((width, width, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def draw(folder):
    """Small images, and a few large ones of one colour."""
    folder.mkdir(parents=True)
    large = png(4000, 99)
    for i in range(SAMPLES):
        content = large if any(i in numbers for numbers in LARGE.values()) else png(16, i)
        (folder / f"{i:03d}.png").write_bytes(content)


def test_packing_survives_requeues_and_is_the_same_to_the_byte_and_damage_is_found(user, wait):
    (user.folder / "three.yaml").write_text(PROFILE)
    draw(user.folder / "tree" / "cell")
    user("shard", "tree", "local", *SIZE)
    on_cluster = ("shard", "tree", "cells", *SIZE, "--profile", "three.yaml")
    sent = user.json(*on_cluster)["sent"]
    assert [(s["phase"], s["tasks"]) for s in sent] == [("examine", 3), ("layout", 1), ("write", 3), ("publish", 1)]
    array = sent[0]["job"]

    def examined(task):
        """How many of its two parts a task has examined."""
        logs = user.folder.glob(f".cells.packing/parts/examined-*-{task:04d}.jsonl")
        return sum(log.read_text().count("\n") for log in logs)

    wait(lambda: examined(0) == 1, 120)
    user.testbed.login("scancel", "--batch", "--signal=USR2", f"{array}_0")  # as near the time limit
    wait(lambda: examined(1) == 1, 120)
    user.testbed.login("scontrol", "requeue", f"{array}_1")  # as SLURM does when a node is lost
    assert f"{array} (examine: " in user(*on_cluster, code=8).stderr
    report = user.json(*on_cluster, "--wait")
    assert (report["written"], report["unchanged"]) == (SAMPLES, False)
    subprocess.run(["diff", "-r", user.folder / "local", user.folder / "cells"], check=True)
    shown = user.testbed.login("scontrol", "-o", "show", "job", array)
    restarts = re.findall(r"ArrayTaskId=(\d) .*? JobState=(\w+) .*? Restarts=(\d)", shown)
    assert sorted(restarts) == [("0", "COMPLETED", "1"), ("1", "COMPLETED", "1"), ("2", "COMPLETED", "0")]

    check = ("verify", "cells", "--deep", "--profile", "three.yaml")
    assert user.json(*check, "--wait") == {"ok": True, "problems": []}
    manifest = json.loads((user.folder / "cells/manifest.json").read_text())
    shard = user.folder / "cells" / manifest["shards"][0]["file"]
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    user(*check)
    bad = wait(lambda: (done := user(*check, code=None)).returncode != 8 and done, 120)
    assert bad.returncode == 5
    assert shard.name in bad.stderr
    assert sorted(os.listdir(user.folder)) == ["cells", "local", "three.yaml", "tree"]
