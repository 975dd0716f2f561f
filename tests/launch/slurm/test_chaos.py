"""Whatever happens to SLURM jobs, runs end with the results of an undisturbed run on this machine."""

import json
import os
import random
from collections import Counter

import pytest

pytestmark = pytest.mark.slow
PROFILE = """\
name: lab
where: slurm
slurm: {{time: 20 min, nodes: {nodes}, cpus_per_node: {cpus}, memory_gb: 3, grace: 25 s}}
"""
ARGS = (
    *("quickstart", "--smoke", "--workers", 2, "--set", "resources.threads=1"),
    *("--set", "train.epochs=24", "--set", "pretrain:train.epochs=48"),
)
OFTEN = ("--set", "resources.checkpoint_every=1 s")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, cli_in):
    """result.json of every run, as this machine leaves it without SLURM."""
    cli = cli_in(tmp_path_factory.mktemp("undisturbed"))
    cli("run", *ARGS, timeout=600)
    return results(cli.folder)


def results(folder):
    return {p.parent.name: p.read_text() for p in folder.glob("runs/*/*/result.json")}


class Lab:
    """A user's runs, and what can happen to them."""

    def __init__(self, user, wait):
        self.user, self.testbed, self.wait = user, user.testbed, wait

    def events(self, job):
        """Every event of the runs of a job, with the run's name."""
        found = []
        for path in sorted(self.user.folder.glob(f"runs/*/{job}-*/events.jsonl")):
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            found += [{**json.loads(line), "run": path.parent.name} for line in lines]
        return found

    def training(self, job):
        """Wait until a run of the job that has not ended writes a checkpoint: the SLURM job's id, and its nodes.

        None once all of them are done: there is nothing left to strike at.
        """
        before = self.checkpoints(job)

        def running():
            there = {task: (number, nodes) for task, number, nodes in self.tasks()}
            written = self.checkpoints(job) - before
            found = [place for run in written if (place := there.get(self.user.sent()[run][-1]))]
            runs = list(self.user.folder.glob(f"runs/*/{job}-*"))
            return found or ([None] if runs and all((run / "result.json").exists() for run in runs) else [])

        return self.wait(running, 240)[0]

    def checkpoints(self, job):
        """How many each run of the job has written."""
        return Counter(e["run"] for e in self.events(job) if e["event"] == "checkpoint")

    def tasks(self):
        """Array id, job id and nodes of what runs."""
        lines = self.testbed.login("squeue", "-h", "-r", "-t", "running", "-o", "%F_%K %A %k %N").splitlines()
        found = []
        for line in lines:
            task, number, key, nodes = line.split()
            if key.startswith("medvq:"):
                found.append((task, number, self.testbed.login("scontrol", "show", "hostnames", nodes).split()))
        return found

    def down(self, node):
        """Tell SLURM at once what it finds out in half a minute."""
        self.testbed.login("scontrol", "update", f"nodename={node}", "state=down", "reason=chaos")

    def up(self, node):
        self.testbed.up()
        self.testbed.login("scontrol", "update", f"nodename={node}", "state=resume", check=False)

    def preempt(self, number, nodes):
        options = ("-p", "high", "-w", ",".join(nodes), f"-N{len(nodes)}", "--exclusive", "-o", "/dev/null")
        self.testbed.login("sbatch", *options, "--wrap", "sleep 2")

    def requeue(self, number, nodes):
        self.testbed.login("scontrol", "requeue", number, check=False)  # it may just have ended

    def cut_power(self, number, nodes):
        self.testbed("cut", nodes[-1])
        self.down(nodes[-1])
        self.up(nodes[-1])

    def kill_driver(self, number, nodes):
        found = self.testbed("on", nodes[0], "--", "pgrep", "-f", "medvq.launch.slurm.task_main", check=False)
        if pids := found.stdout.split():  # it may just have ended
            self.testbed("on", nodes[0], "--", "kill", "-9", *pids, check=False)

    def restart_controller(self, number, nodes):
        self.testbed("stop", "slurmctld")
        self.testbed.up()


@pytest.fixture
def lab(user, wait):
    return Lab(user, wait)


def leftovers(lab):
    """Processes and files of Ray on the nodes, and what runs leave in their folders only while they go on."""
    found = []
    for node in ("node1", "node2", "node3"):
        there = set(lab.testbed("on", node, "--", "ps", "-e", "-o", "comm=").stdout.split())
        found += [f"{node}: {process}" for process in there - {"bash", "sleep", "slurmd", "ps"}]
        files = lab.testbed("on", node, "--", "ls", "-A", "/tmp", "/dev/shm").stdout.split()
        found += [f"{node}: {file}" for file in files if file.startswith(("mq", "ray"))]
    return found + [str(p) for word in (".ray", "*/.stop-*") for p in lab.user.folder.glob(f"runs/*/{word}")]


def wait_until_nothing_is_left(lab):
    lab.wait(lambda: not leftovers(lab), 60, lambda: leftovers(lab))


def test_a_study_on_two_nodes_from_submit_to_table(lab, undisturbed):
    user = lab.user
    (user.folder / "lab.yaml").write_text(PROFILE.format(nodes=2, cpus=1))
    user("submit", *ARGS, "--only", "scratch", "--profile", "lab.yaml")
    user("wait", "quickstart-smoke", "--timeout", "5 min", timeout=400)
    found = results(user.folder)
    assert len(found) == 2
    assert found == {run: undisturbed[run] for run in found}
    (first, second) = (e for e in lab.events("scratch") if e["event"] == "attempt")
    assert len(first["hosts"]) == len(second["hosts"]) == 2, "a worker on each node"
    assert "scratch" in user("results", "quickstart-smoke").stdout
    assert {r["state"] for r in user.json("status", "quickstart-smoke")["runs"]} == {"done"}
    wait_until_nothing_is_left(lab)


def test_every_run_is_done_once_through_preemption_power_cuts_and_kills(lab, undisturbed):
    user, rng = lab.user, random.Random(int(os.environ.get("MEDVQ_CHAOS_SEED", "6")))
    (user.folder / "lab.yaml").write_text(PROFILE.format(nodes=2, cpus=2))
    user("submit", *ARGS, *OFTEN, "--only", "finetune", "--profile", "lab.yaml")
    blows = [lab.preempt, lab.requeue, lab.cut_power, lab.kill_driver, lab.restart_controller]
    rng.shuffle(blows)
    for i, blow in enumerate(blows):
        target = lab.training("pretrain" if i < 3 else "finetune")
        if target:
            blow(*target)
    user("wait", "quickstart-smoke", "--timeout", "6 min", timeout=400)
    found = results(user.folder)
    assert len(found) == 3
    assert found == {run: undisturbed[run] for run in found}
    for job in ("pretrain", "finetune"):
        assert not [e for e in lab.events(job) if e["event"] == "failed"]
    assert max(e["attempt"] for e in lab.events("pretrain")) > 1
    assert all(len(ids) == 1 for ids in user.sent().values()), "a run keeps its SLURM id"
    wait_until_nothing_is_left(lab)


def test_processes_that_live_on_after_a_requeue_cannot_write(lab, undisturbed):
    user = lab.user
    (user.folder / "lab.yaml").write_text(PROFILE.format(nodes=1, cpus=2))
    user("submit", *ARGS, *OFTEN, "--only", "pretrain", "--profile", "lab.yaml")
    _, (node,) = lab.training("pretrain")
    user.testbed("stop", f"slurmd-{node}", "--kill")
    ghosts = user.testbed("on", node, "--", "pgrep", "-f", "medvq|ray").stdout.split()
    user.testbed("on", node, "--", "kill", "-STOP", *ghosts)  # a node that hangs, and comes to itself later
    lab.down(node)
    try:
        second = lab.wait(lambda: [e for e in lab.events("pretrain") if e["event"] == "attempt"][1:], 120)
        assert second[0]["hosts"] != [node]
        user.testbed("on", node, "--", "kill", "-CONT", *ghosts)
        (log,) = user.folder.glob("runs/*/pretrain-*/logs/attempt-1-rank-0.log")
        lab.wait(lambda: "attempt 2 has taken this run over; attempt 1 stops" in log.read_text(), 120)
        user("wait", "quickstart-smoke", "--timeout", "5 min", timeout=400)
    finally:
        lab.up(node)
    found = results(user.folder)
    assert found == {run: undisturbed[run] for run in found}
    events = lab.events("pretrain")
    begin = next(i for i, e in enumerate(events) if e["event"] == "attempt" and e["attempt"] == 2)
    # The ghost's srun, come to itself, may end the step of the same number of the new start; workers then start again.
    assert 1 not in {e["attempt"] for e in events[begin:]}
