"""The testbed is a real SLURM, takes power cuts, and leaves nothing behind."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def states(testbed):
    return dict(line.split() for line in testbed.login("sinfo", "-h", "-N", "-p", "low", "-o", "%N %T").splitlines())


def test_three_hosts_answer_and_see_one_folder_but_not_each_others_tmp(testbed, shared):
    names = testbed.login("srun", "-N3", "-n3", "sh", "-c", f"touch {shared}/$(hostname) /tmp/$(hostname); ls /tmp")
    assert sorted(p.name for p in shared.iterdir()) == ["node1", "node2", "node3"]
    for node in ("node1", "node2", "node3"):
        assert names.split().count(node) == 1


def test_a_power_cut_takes_everything_and_the_node_comes_back(testbed, shared, wait):
    job = testbed.login("sbatch", "--parsable", "-w", "node2", "-o", f"{shared}/%j", "--wrap", "sleep 600").strip()
    wait(lambda: testbed.login("squeue", "-h", "-j", job, "-o", "%T").strip() == "RUNNING")
    testbed("cut", "node2")
    assert "node2  down" in testbed("status").stdout
    testbed("back", "node2")
    wait(lambda: states(testbed)["node2"] in ("idle", "mixed"))
    testbed.login("scancel", job)


def test_up_again_starts_what_was_stopped(testbed):
    testbed("stop", "slurmctld", "--kill")
    assert testbed("login", "--", "timeout", "5", "scontrol", "ping", check=False).returncode != 0
    testbed.up()
    assert "UP" in testbed.login("scontrol", "ping")


def test_the_machines_own_network_and_files_are_left_alone(testbed):
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert "br0" not in links
    assert "vnode" not in links
    assert not Path("/etc/slurm/slurm.conf").exists()
    assert "10.77.0" not in Path("/etc/hosts").read_text()
