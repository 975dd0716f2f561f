"""What a SLURM job learns from its environment."""

import pytest

from medvq.errors import MissingError
from medvq.launch.allocation import network
from medvq.launch.allocation.allocation import allocation, names


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("gpu[1-3]", ["gpu1", "gpu2", "gpu3"]),
        ("gpu[08-10,12],login", ["gpu08", "gpu09", "gpu10", "gpu12", "login"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("c[1-2]-ib", ["c1-ib", "c2-ib"]),
    ],
)
def test_node_names_are_written_out(short, long):
    assert list(names(short)) == long


def environment(**more):
    return {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURMD_NODENAME": "n1", **more}


def test_outside_a_job_and_on_the_login_node_of_salloc_there_is_none():
    assert allocation({}) is None
    assert allocation({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1"}) is None


@pytest.mark.parametrize(
    ("given", "cpus", "gpus", "memory"),
    [
        ({"SLURM_CPUS_PER_TASK": "6", "SLURM_MEM_PER_NODE": "2048", "SLURM_GPUS_ON_NODE": "4"}, 6, 4, 2**31),
        ({"SLURM_JOB_CPUS_PER_NODE": "8(x2)", "SLURM_MEM_PER_CPU": "256"}, 8, 0, 2**31),
        ({"SLURM_JOB_CPUS_PER_NODE": "8,6", "CUDA_VISIBLE_DEVICES": "0,1"}, 6, 2, None),
        ({"SLURM_GPUS_PER_NODE": "a100:3", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 1, 3, None),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 1, 0, None),
    ],
)
def test_the_share_of_a_node_is_what_slurm_gave_not_what_the_node_has(given, cpus, gpus, memory):
    found = allocation(environment(**given))
    assert (found.nodes, found.cpus, found.gpus, found.memory) == (("n1", "n2"), cpus, gpus, memory)


def test_ports_differ_and_interfaces_are_found():
    assert len(set(network.free_ports("127.0.0.1", 8))) == 8
    assert network.interface_of("127.0.0.1") == "lo"
    assert network.address_of("lo") == "127.0.0.1"
    with pytest.raises(MissingError, match="no network interface"):
        network.address_of("ib77")


def test_the_node_that_asks_comes_first_because_rays_driver_needs_its_head_there():
    assert allocation(environment(SLURMD_NODENAME="n2")).nodes == ("n2", "n1")
