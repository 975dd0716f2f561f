"""Sending runs to a real SLURM: once each, whatever is killed; what waits for what; what failed and what it blocks."""

import shutil
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PROFILE = """\
name: held
where: slurm
slurm: {{time: 10 min, cpus_per_node: 1, memory_gb: 1, grace: 30 s{more}}}
"""
HELD = ", extra: [--hold]"
SBATCH = "/usr/bin/sbatch"
KILLS = {
    "before sbatch has begun": "kill -9 $PPID",
    "while sbatch is under way": f'kill -9 $PPID; sleep 2; exec {SBATCH} "$@"',
    "before the answer is written down": f'{SBATCH} "$@" > /dev/null; kill -9 $PPID',
}


@pytest.fixture
def study(user, smear):
    """Arguments that send the quickstart's ten runs, held."""
    (user.folder / "held.yaml").write_text(PROFILE.format(more=HELD))
    return ("submit", "quickstart", "--data", f"cells={smear}", "--profile", "held.yaml")


def test_a_dry_run_writes_nothing_and_tells_what_would_be_sent(user, study):
    found = user.json(*study, "--dry-run")
    assert [r["action"] for r in found["runs"]] == ["new"] * 9
    assert len(found["scripts"]) == len(found["arrays"]) == 3
    assert {p.name for p in user.folder.iterdir()} == {"held.yaml"}


def test_runs_are_sent_once_and_wait_for_what_they_need(user, study):
    user(*study)
    assert user.sent().keys() == {r["run"] for r in user.json("status", "quickstart")["runs"]}
    assert len(user.queue("pending")) == 9
    waits = user.testbed.login("squeue", "-h", "-r", "-o", "%j %E")
    assert waits.count("quickstart.finetune afterok:") == 4
    before = list(user.sent().values())
    begin = time.monotonic()
    user(*study)
    assert time.monotonic() - begin < 10
    assert list(user.sent().values()) == before
    assert len(user.queue("pending")) == 9


def test_what_another_user_has_sent_is_seen_and_not_sent_again(user, study):
    wrapper = user.folder / "bin/sbatch"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {SBATCH} --uid=nobody "$@"\n')
    wrapper.chmod(0o755)
    try:
        user(*study, path=wrapper.parent)
        for record in user.folder.glob("runs/quickstart/submissions/*.json"):
            shutil.chown(record, "nobody")
        assert user.testbed.login("squeue", "-h", "-r", "-o", "%u").split() == ["nobody"] * 9
        user(*study)
        assert len(user.queue("pending")) == 9
        found = user.json("status", "quickstart")["runs"]
        assert {r["state"] for r in found} == {"queued"}
        assert any("held: JobHeldUser; `scontrol release" in r["reason"] for r in found)
    finally:
        user.testbed.login("scancel", "-u", "nobody")


@pytest.mark.parametrize("when", KILLS)
def test_killed_anywhere_and_repeated_no_run_is_sent_twice(user, study, when):
    shim = user.folder / "shim"
    shim.mkdir()
    (shim / "sbatch").write_text(f"#!/bin/sh\n{KILLS[when]}\n")
    (shim / "sbatch").chmod(0o755)
    for _ in range(2):
        user(*study, path=shim, code=None)
    user(*study)
    tasks = user.queue("pending")
    assert len(tasks) == 9
    assert sorted(tasks) == sorted(ids[-1] for ids in user.sent().values())


def test_cancel_ends_all_and_retry_sends_them_again(user, study, wait):
    user(*study)
    user("cancel", "quickstart", code=2)
    user("cancel", "quickstart", "--yes")
    wait(lambda: not user.queue("pending"))
    states = {r["state"] for r in user.json("status", "quickstart")["runs"]}
    assert states == {"planned"}
    user("retry", "quickstart")
    assert len(user.queue("pending")) == 9
    assert {len(ids) for ids in user.sent().values()} == {2}


def test_what_cannot_start_is_failed_with_its_last_words_and_blocks_what_needs_it(user, study):
    (user.folder / "held.yaml").write_text(PROFILE.format(more=', setup: ["module load nonsense || exit 3"]'))
    user(*study)
    user("wait", "quickstart", code=6)
    found = {r["run"].split("-")[0]: r for r in user.json("status", "quickstart")["runs"]}
    assert found["pretrain"]["state"] == "failed"
    assert "module: " in found["pretrain"]["failure"]["traceback"][-1]
    assert found["finetune"]["state"] == "blocked"
    assert found["scratch"]["state"] == "failed"
    assert "module: " in user("logs", found["pretrain"]["run"]).stdout


def test_without_a_controller_status_says_what_it_cannot_know(user, study):
    user(*study)
    user.testbed("stop", "slurmctld")
    try:
        found = user.json("status", "quickstart")
        assert {r["state"] for r in found["runs"]} == {"queued"}
        assert "squeue: " in found["notes"][0]
        user(*study, code=1)
    finally:
        user.testbed.up()
    assert len(user.queue("pending")) == 9


def test_without_accounting_status_says_so(user, study, wait):
    user(*study)
    user("cancel", "quickstart", "--yes")
    wait(lambda: not user.queue("pending"))
    user.testbed("stop", "slurmdbd")
    try:
        found = user.json("status", "quickstart")
        assert any("sacct: " in note for note in found["notes"])
    finally:
        user.testbed.up()


def test_doctor_knows_the_cluster(user):
    profile = Path(user.folder / "bad.yaml")
    profile.write_text(PROFILE.format(more=", partition: low, gpus_per_node: 9"))
    checks = user.json("doctor", "--profile", "bad.yaml", code=4)["checks"]
    assert any(c["level"] == "fail" and "9 GPUs" in c["what"] for c in checks)
    profile.write_text(PROFILE.format(more=", partition: low, gpus_per_node: 2, gpu_type: fake"))
    checks = user.json("doctor", "--profile", "bad.yaml")["checks"]
    assert not [c for c in checks if c["level"] == "fail"]
    words = " ".join(c["what"] for c in checks)
    for thing in ("partition low is up", "3 nodes", "MaxArraySize", "accounting answers", "preemption leaves"):
        assert thing in words
