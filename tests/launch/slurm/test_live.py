"""Runs on a real SLURM that are stopped, killed and taken away, one worker each; and who watches them meanwhile."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
PROFILE = """\
name: lab
where: slurm
slurm: {{time: {time}, cpus_per_node: 1, memory_gb: 2, grace: 30 s, {more}}}
"""
ARGS = ("--smoke", "--workers", 0, "--only", "pretrain", "--set", "resources.threads=1")
OFTEN = ("--set", "resources.checkpoint_every=1 s")
LONG = ("--set", "train.epochs=90")
ENDLESS = ("--set", "train.epochs=10000")


class Job:
    """The one run of a study that is sent, and its SLURM job."""

    def __init__(self, user, wait, more="", time="5 min"):
        self.user, self.login, self.wait = user, user.testbed.login, wait
        (user.folder / "lab.yaml").write_text(PROFILE.format(time=time, more=more or "requeues: 50"))

    def submit(self, *args):
        self.user("submit", "quickstart", *ARGS, *args, "--profile", "lab.yaml")
        return self

    @property
    def folder(self):
        (found,) = self.user.folder.glob("runs/*/pretrain-*")
        return found

    @property
    def id(self):
        ((only,),) = self.user.sent().values()
        return only

    def events(self, *kinds):
        path = self.folder / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [e for e in found if e["event"] in kinds] if kinds else found

    def state(self):
        """SLURM's word, and how often it has started the job."""
        out = self.login("scontrol", "-o", "show", "job", self.id)
        return re.search(r"JobState=(\S+)", out)[1], int(re.search(r"Restarts=(\d+)", out)[1])

    def until_start(self, number):
        self.wait(lambda: self.state()[0] == "RUNNING" and self.state()[1] >= number, 120)

    def until_checkpoint(self, start):
        """The run writes checkpoints in this start of its job."""

        def there():
            starts = self.events("attempt", "checkpoint")
            begin = [i for i, e in enumerate(starts) if e["event"] == "attempt" and e["slurm"]["restart"] >= start]
            return begin and starts[begin[-1] + 1 :]

        self.wait(there, 120)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cli_in):
    """result.json as this machine leaves it without SLURM."""
    cli = cli_in(tmp_path_factory.mktemp("alone"))
    cli("run", "quickstart", *ARGS, *LONG)
    (result,) = cli.folder.glob("runs/*/pretrain-*/result.json")
    return result.read_text()


def test_stopped_at_any_moment_it_goes_on_and_who_watches_sees_it_all(user, wait, alone):
    job = Job(user, wait, "partition: abrupt").submit(*LONG, *OFTEN)
    follower = subprocess.Popen(
        [sys.executable, "-c", "from medvq.cli import main; main()", "logs", "pretrain", "-f"],
        cwd=user.folder, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait(lambda: list(user.folder.glob("runs/*/submissions/1.job")), 120)  # bash listens
        job.login("scancel", "--batch", "--signal=USR1", job.id)  # Python has hardly begun
        job.until_start(1)
        requeue = ("login", "--", "scontrol", "requeue", job.id)
        wait(lambda: user.testbed(*requeue, check=False).returncode == 0)  # SLURM may be about to start it
        job.until_start(2)
        job.until_checkpoint(2)

        def training():
            """The run, once something of its speed is measured."""
            (run,) = user.json("status", "quickstart-smoke")["runs"]
            at_work = run["progress"] and run["progress"]["phase"] == "training"
            return run if at_work and run["progress"]["images_per_s"] else None

        seen = wait(training)
        assert (seen["state"], seen["slurm"]) == ("running", job.id)
        assert seen["hosts"] == job.events("attempt")[-1]["hosts"]
        preempt = ("-p", "high", "-w", seen["hosts"][0], "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
        job.login("sbatch", *preempt)  # in this partition without notice
        job.until_start(3)
        user("wait", "quickstart-smoke", "--timeout", "4 min", timeout=300)
        said, _ = follower.communicate(timeout=30)
    finally:
        follower.kill()
    assert (job.folder / "result.json").read_text() == alone
    assert job.state()[0] == "COMPLETED"
    assert not job.events("crashed", "failed"), "nobody is to blame"
    numbers = [e["attempt"] for e in job.events("attempt")]
    assert numbers == list(range(1, len(numbers) + 1))
    for number in numbers:
        assert said.count(f"attempt-{number}-rank-0.log <==") >= 1
    only = user("logs", "pretrain", "--attempt", numbers[-1]).stdout
    assert only.count("<==") == 1
    assert f"attempt-{numbers[-1]}-rank-0.log" in only


def test_at_its_time_limit_it_goes_on_in_the_next_job_until_it_is_cancelled(user, wait):
    job = Job(user, wait, time="1 min").submit(*ENDLESS, *OFTEN)
    wait(lambda: job.events("limit") and job.events("stopped"), 240)
    stopped = job.events("stopped")[-1]["step"]
    job.until_start(1)
    job.until_checkpoint(1)
    wait(lambda: job.events("checkpoint")[-1]["step"] > stopped)  # at first none, if the epoch's last step was done
    user("cancel", "pretrain", "--yes")
    wait(lambda: job.state()[0] == "CANCELLED")
    wait(lambda: [r["state"] for r in user.json("status", "quickstart-smoke")["runs"]] == ["stopped"])
    steps = [e["step"] for e in job.events("checkpoint", "stopped")]
    assert steps == sorted(steps)


def test_break_downs_without_progress_come_to_an_end_and_not_twice_on_one_node(user, wait):
    kill = "(until pkill -9 -f [m]edvq.launch.slurm.task_main; do sleep 0.2; done) &"
    job = Job(user, wait, f'setup: ["{kill}"]').submit(*ENDLESS)
    user("wait", "quickstart-smoke", "--timeout", "3 min", code=6, timeout=200)
    first, second, end = job.events("crashed", "failed")
    assert [first["event"], second["event"], end["event"]] == ["crashed", "crashed", "failed"]
    assert first["hosts"] != second["hosts"]
    (seen,) = user.json("status", "quickstart-smoke")["runs"]
    assert "broke down 2 times in a row" in seen["failure"]["error"]
    assert any("Killed" in line for line in seen["failure"]["traceback"])
    assert not user.queue("pending,running")
    user("submit", "quickstart", *ARGS, *ENDLESS, "--profile", "lab.yaml")
    assert not user.queue("pending,running"), "what failed is sent again on demand only"


def test_what_fails_by_its_own_fault_says_where_and_is_tried_again_on_demand(user, wait):
    job = Job(user, wait, "requeues: 0").submit("--set", "train.optimizer.lr=1e38")
    user("wait", "quickstart-smoke", code=6)
    (seen,) = user.json("status", "quickstart-smoke")["runs"]
    assert seen["state"] == "failed"
    assert "not finite" in seen["failure"]["error"]
    assert 1 <= len(seen["failure"]["traceback"]) <= 3
    shown = user("status", "quickstart-smoke", "--state", "failed").stdout
    for line in (seen["failure"]["error"].splitlines()[0], *seen["failure"]["traceback"], seen["failure"]["log"]):
        assert line.strip() in shown
    assert job.state() == ("FAILED", 0)
    user("retry", "quickstart-smoke")
    assert [len(ids) for ids in user.sent().values()] == [1]
    user("retry", "quickstart-smoke", "--failed")
    assert [len(ids) for ids in user.sent().values()] == [2]
    user("wait", "quickstart-smoke", code=6)
    assert {e["attempt"] for e in job.events("failed")} == {1, 2}


def test_two_submits_at_once_send_each_run_once(user):
    (user.folder / "lab.yaml").write_text(PROFILE.format(time="5 min", more="extra: [--hold]"))
    command = (sys.executable, "-c", "from medvq.cli import main; main()", "submit", "quickstart", *map(str, ARGS))
    setting = ("sh", "-c", 'cd "$0" && exec "$@"', str(user.folder), *command, "--profile", "lab.yaml")
    script = [sys.executable, str(user.testbed.script), "login", "--", *setting]
    both = [subprocess.Popen(script, env=user.testbed.environment, stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.wait(60) for process in both] == [0, 0, 0]
    assert [len(ids) for ids in user.sent().values()] == [1]
    assert len(user.queue("pending")) == 1


def test_the_plain_script_is_requeued_and_goes_on(user, wait, alone):
    login, top = user.testbed.login, user.testbed.script.parents[1]
    shutil.copy(top / "medvq.sbatch", user.folder)
    (user.folder / "medvq").write_text(f"#!{sys.executable}\nfrom medvq.cli import main\nmain()\n")
    (user.folder / "medvq").chmod(0o755)
    path = f"PATH={user.folder}:{os.environ['PATH']},PYTHONPATH={top.parent}"
    options = ("--parsable", "--time=5", "--mem=2G", "--cpus-per-task=1", f"--chdir={user.folder}", f"--export={path}")
    number = login("sbatch", *options, str(user.folder / "medvq.sbatch"), "quickstart", *ARGS, *LONG, *OFTEN).strip()

    def text():
        return "".join(p.read_text() for p in user.folder.glob("runs/*/pretrain-*/events.jsonl"))

    wait(lambda: text().count('"checkpoint"') > 2, 120)
    login("scancel", "--batch", "--signal=USR1", number)
    wait(lambda: list(user.folder.glob("runs/*/pretrain-*/result.json")), 120)
    (result,) = user.folder.glob("runs/*/pretrain-*/result.json")
    assert result.read_text() == alone
    attempts = [json.loads(line) for line in text().splitlines() if '"attempt", ' in line]
    assert [a["slurm"]["restart"] for a in attempts] == [0, 1]
    wait(lambda: "COMPLETED" in login("scontrol", "show", "job", number))
