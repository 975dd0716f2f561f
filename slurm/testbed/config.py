"""The text of the configuration files of the testbed's SLURM."""

from __future__ import annotations

import zlib
from pathlib import Path

NETWORK = "10.77.0"
CONTROLLER = "ctl"


def slurm_conf(
    state: Path, nodes: list[str], *, cpus: int, memory: int, gpus: int, cgroup: bool, accounting: bool
) -> str:
    """Return slurm.conf; `memory` is in MB per node.

    Timers are short, so that tests see in seconds what takes minutes on a cluster; comments give SLURM's defaults. GPUs
    are character devices that nothing opens.
    """
    storage = (
        f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost={CONTROLLER}\n"
        "AccountingStorageTRES=gres/gpu\nAccountingStoreFlags=job_comment\n"
        if accounting
        else "AccountingStorageType=accounting_storage/none\n"
    )
    hosts = "".join(
        f"NodeName={n} NodeAddr={address(n)} CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} "
        f"ThreadsPerCore=1 RealMemory={memory} Gres=gpu:fake:{gpus} State=UNKNOWN\n"
        for n in nodes
    )
    track, task = ("proctrack/cgroup", "task/cgroup") if cgroup else ("proctrack/linuxproc", "task/none")
    return f"""ClusterName=testbed
SlurmctldHost={CONTROLLER}({address(CONTROLLER)})
SlurmUser=root
AuthType=auth/munge
# A requeued job restarts after cred_expire + 1 s (default 120)
AuthInfo=cred_expire=5
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd-%n.pid
SlurmdSpoolDir={state}/spool/%n
StateSaveLocation={state}/slurmctld
SlurmctldLogFile={state}/log/slurmctld.log
SlurmdLogFile={state}/log/slurmd-%n.log
ProctrackType={track}
TaskPlugin={task}
# Allows nodes that declare more cores than the machine has
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
# A lost node is down after 10 s (default 300); a job has 5 s between SIGTERM and SIGKILL (default 30)
SlurmdTimeout=10
SlurmctldTimeout=10
KillWait=5
MinJobAge=300
InactiveLimit=0
MessageTimeout=20
# The signal of --signal is sent at preemption, too
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=5,bf_interval=2,bf_resolution=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=200
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PriorityType=priority/basic
MaxArraySize=1001
GresTypes=gpu
FirstJobId={first_job(state)}
{storage}{hosts}PartitionName=DEFAULT Nodes=ALL MaxTime=1-00:00:00 DefaultTime=10 State=UP
PartitionName=low Default=YES PriorityTier=1 GraceTime=30
PartitionName=abrupt PriorityTier=1 GraceTime=0
PartitionName=high PriorityTier=10 GraceTime=0 PreemptMode=OFF
"""


def first_job(state: Path) -> int:
    """Return the first job id. Two testbeds on one machine share its cgroups, which are named after job ids."""
    return zlib.crc32(str(state).encode()) % 60_000 * 1000 + 1


def gres_conf(state: Path, gpus: int) -> str:
    """Return gres.conf: the fake GPUs of every node."""
    files = f"gpu[0-{gpus - 1}]" if gpus > 1 else "gpu0"
    return f"Name=gpu Type=fake File={state}/devices/{files}\n"


def cgroup_conf() -> str:
    """Return cgroup.conf, which is read only if processes are tracked by cgroup v1."""
    return (
        "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n"
        "ConstrainRAMSpace=yes\nConstrainDevices=no\nConstrainCores=no\n"
    )


def slurmdbd_conf(state: Path) -> str:
    """Return slurmdbd.conf; the database listens on a socket that only root can use."""
    return f"""AuthType=auth/munge
DbdHost={CONTROLLER}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
LogFile={state}/log/slurmdbd.log
PidFile={state}/slurmdbd.pid
CommitDelay=1
"""


def hosts(nodes: list[str]) -> str:
    """Return /etc/hosts of every host of the testbed."""
    return "127.0.0.1 localhost\n" + "".join(f"{address(n)} {n}\n" for n in [CONTROLLER, *nodes])


def address(host: str) -> str:
    """Return the address of a host in the testbed's own network."""
    return f"{NETWORK}.1" if host == CONTROLLER else f"{NETWORK}.{10 + int(host.removeprefix('node'))}"
