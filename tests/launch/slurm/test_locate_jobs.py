"""Where runs are that were sent: whoever sent them, and whatever became of the answer of `sbatch`.

SLURM's commands are scripts here that keep their jobs in a file and answer as SLURM does.
"""

import json
import os
import signal
import sys
import time

import pytest

from medvq.errors import MedvqError
from medvq.launch.slurm.query import LOST, REFUSED, SilentError, call

NOBODY = 65534
START = f"""#!{sys.executable} -S
import json, os, re, sys, time
from pathlib import Path
here = Path(__file__).parent.parent
file = here / "jobs"
jobs = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
"""
COMMANDS = {
    "sbatch": """
text = Path(sys.argv[1]).read_text()
key, tasks = re.search(r"--comment='?([^'\\n]+)", text)[1], re.search(r"--array=(\\d+)-?(\\d*)", text)
job = {"id": 100 + len(jobs), "first": int(tasks[1]), "last": int(tasks[2] or tasks[1]), "key": key}
job["user"] = os.getuid()
how = (here / "how").read_text() if (here / "how").exists() else ""
if not how.startswith("refuse"):
    with file.open("a") as f:
        print(json.dumps(job), file=f)
exec(how.removeprefix("refuse"))
print("Submitted batch job", job["id"])
""",
    "squeue": """
users = {str(os.getuid())} if "--me" in sys.argv else None
if "-u" in sys.argv:
    users = set(sys.argv[sys.argv.index("-u") + 1].split(","))
for job in jobs:
    shown = users is None or str(job["user"]) in users
    shown = shown and (job["user"] == os.getuid() or not (here / "private").exists())
    shown = shown and ("-a" in sys.argv or not job.get("hidden")) and "SQUEUE_PARTITION" not in os.environ
    state, reason = job.get("state", "PENDING"), job.get("reason", "Priority")
    for index in range(job["first"], job["last"] + 1) if shown and state else ():
        print(f"{job['id']}_{index}|{state}||1:00:00|{reason}|{job['key']}")
""",
    "sacct": """
for job in jobs:
    for index in range(job["first"], job["last"] + 1) if job.get("account") else ():
        print(f"{job['id']}_{index}|{job['account']}|10|1|00:01||1G|1||")
""",
    "scancel": """
with (here / "cancelled").open("a") as f:
    print(*sys.argv[1:], file=f)
""",
    "scontrol": "",
}
PROFILE = "name: p\nwhere: slurm\nslurm: {partition: gpu, time: 1 h, cpus_per_node: 2, memory_gb: 4}\n"


class Cluster:
    """Jobs in a file, and medvq in a folder beside it."""

    def __init__(self, cli, folder, smear):
        self.cli, self.folder = cli, folder
        self.submit = ("submit", "quickstart", "--data", f"cells={smear}", "--only", "pretrain", "--profile", "p.yaml")
        (folder / "p.yaml").write_text(PROFILE)
        (folder / "bin").mkdir()
        for name, body in COMMANDS.items():
            (folder / "bin" / name).write_text(START + body)
            (folder / "bin" / name).chmod(0o755)

    def sbatch(self, how):
        """Let sbatch do so after SLURM has the job."""
        (self.folder / "how").write_text(how)

    @property
    def jobs(self):
        return [json.loads(line) for line in (self.folder / "jobs").read_text().splitlines()]

    def change(self, **facts):
        """Let these be facts of all jobs."""
        (self.folder / "jobs").write_text("".join(json.dumps({**job, **facts}) + "\n" for job in self.jobs))

    def give_to(self, user):
        """Let somebody else have sent everything."""
        self.change(user=user)
        for path in (self.folder / "runs").rglob("*"):
            os.chown(path, user, -1)

    def states(self, *more):
        return {(r["state"], r["reason"], r["slurm"]) for r in self.cli.json("status", *more)["runs"]}


@pytest.fixture
def cluster(cli, tmp_path, smear, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return Cluster(cli, tmp_path, smear)


LOSSES = {
    "killed": "os.kill(os.getpid(), 9)",
    "receive": "sys.exit('sbatch: error: Batch job submission failed: Message receive failure')",
    "unknown": "sys.exit(137)",
    "empty": "sys.exit(0)",
}


@pytest.mark.parametrize("how", LOSSES)
def test_a_job_whose_answer_was_lost_is_found_and_not_sent_again(cluster, how):
    (cluster.folder / "p.yaml").write_text(PROFILE.replace("time", "comment: grant 7, time"))
    cluster.sbatch(LOSSES[how])
    assert "not known whether SLURM took" in cluster.cli(*cluster.submit, code=1).stderr_text
    assert cluster.states("quickstart") == {("queued", "jobs of higher priority come first", "100_0")}
    cluster.sbatch("")
    again = cluster.cli(*cluster.submit)
    assert "SLURM has it as job 100" in again.stderr_text
    assert "1 queued" in again.stdout_text
    assert len(cluster.jobs) == 1


def test_what_slurm_refuses_is_settled_at_once(cluster):
    (cluster.folder / "jobs").touch()
    cluster.sbatch("refuse" + "sys.exit('sbatch: error: Batch job submission failed: Invalid qos specification')")
    assert "SLURM refuses: " in cluster.cli(*cluster.submit, code=1).stderr_text
    assert cluster.states("quickstart") == {("planned", "", None)}
    cluster.sbatch("")
    again = cluster.cli(*cluster.submit)
    assert "interrupted" not in again.stderr_text
    assert len(cluster.jobs) == 1


REFUSALS = (
    "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
    "sbatch: error: Batch job submission failed: Requested node configuration is not available",
    "sbatch: error: Batch job submission failed: Required node not available (down, drained or reserved)",
    "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
    "accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "sbatch: unrecognized option '--frob'\nTry \"sbatch --help\" for more information",
    "sbatch: error: Invalid --time specification",
)
SILENCES = (
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
    "sbatch: error: Batch job submission failed: Slurmd/Slurmctld is shutting down: shutdown in progress",
    "sbatch: error: Batch job submission failed: Message send failure",
    "sbatch: error: slurm_receive_msg: Zero Bytes were transmitted or received",
)
UNCLEAR = (
    "sbatch: error: Batch job submission failed: Invalid authentication credential",
    "sbatch: error: Batch job submission failed: Unspecified error",
    "wrapper: line 3: out of paper",
)


def test_only_words_that_are_known_are_taken_for_a_refusal():
    assert all(REFUSED.search(words) and not LOST.search(words) for words in REFUSALS)
    assert all(LOST.search(words) for words in SILENCES)
    assert not any(REFUSED.search(words) for words in UNCLEAR)


def test_a_command_that_is_killed_gives_no_answer(tmp_path, monkeypatch):
    (tmp_path / "squeue").write_text("#!/bin/sh\n[ $1 = kill ] && kill -9 $$\nexit 3\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SilentError, match="ended by signal 9"):
        call("squeue", "kill")
    with pytest.raises(MedvqError, match="exit 3") as e:
        call("squeue", "no")
    assert not isinstance(e.value, SilentError)


def test_a_killed_submit_leaves_a_job_that_status_wait_and_cancel_see(cluster):
    hangs = "[time.sleep(0.1) for _ in range(300) if not (here / 'go').exists()]"
    cluster.sbatch(f"os.kill(os.getppid(), 9); {hangs}")
    cluster.cli(*cluster.submit, code=-signal.SIGKILL)
    assert cluster.states("quickstart") == {("queued", "jobs of higher priority come first", "100_0")}
    cluster.cli("wait", "quickstart", "--timeout", "0.1 s", code=8)
    assert "SLURM job 100_0" in cluster.cli("cancel", "quickstart", "--dry-run").stdout_text
    cancel = cluster.cli.start("cancel", "quickstart", "--yes")
    assert "waiting for a submit of quickstart" in cancel.stderr.readline()
    (cluster.folder / "go").touch()
    assert "SLURM has it as job 100" in cancel.communicate(timeout=60)[1]
    assert (cluster.folder / "cancelled").read_text() == "100_0\n"
    (record,) = (cluster.folder / "runs/quickstart/submissions").glob("*.json")
    assert json.loads(record.read_text())["job"] == "100"


def test_a_job_that_has_begun_is_known_by_the_word_of_its_script(cluster):
    cluster.sbatch("os.kill(os.getppid(), 9)")
    cluster.cli(*cluster.submit, code=-signal.SIGKILL)
    cluster.change(key="cut off", state="RUNNING", reason="None")
    (cluster.folder / "runs/quickstart/submissions/1.job").write_text("100\n")
    assert cluster.states("quickstart") == {("running", "starting", "100_0")}


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to somebody else")


@needs_root
@pytest.mark.parametrize("answer", ["", "os.kill(os.getpid(), 9)"])
def test_what_another_member_of_the_lab_has_sent_is_not_sent_again(cluster, answer):
    cluster.sbatch(answer)
    cluster.cli(*cluster.submit, code=None)
    cluster.give_to(NOBODY)
    cluster.sbatch("")
    assert "1 queued" in cluster.cli(*cluster.submit).stdout_text
    assert cluster.states("quickstart") == {("queued", "jobs of higher priority come first", "100_0")}
    assert len(cluster.jobs) == 1


@needs_root
def test_of_hidden_jobs_of_others_only_accounting_can_say_that_they_have_ended(cluster):
    cluster.cli(*cluster.submit)
    cluster.give_to(NOBODY)
    (cluster.folder / "private").touch()
    said = cluster.cli(*cluster.submit, code=1).stderr_text
    assert "sent by nobody, and SLURM does not tell whether they have ended; nothing is sent" in said
    assert cluster.states("quickstart") == {("queued", "SLURM does not say", "100_0")}
    assert "sent by nobody" in cluster.cli("status").stdout_text
    assert "nobody sent it" in cluster.cli("cancel", "quickstart").stderr_text
    cluster.change(account="NODE_FAIL")
    cluster.cli(*cluster.submit, code=1)
    assert len(cluster.jobs) == 1
    cluster.change(account="CANCELLED")
    assert cluster.states("quickstart") == {("planned", "SLURM job 100_0: cancelled", "100_0")}
    assert "1 new" in cluster.cli(*cluster.submit).stdout_text
    assert len(cluster.jobs) == 2


def test_jobs_of_hidden_partitions_are_seen_whatever_a_person_likes_to_be_shown(cluster, monkeypatch):
    cluster.cli(*cluster.submit)
    cluster.change(hidden=True)
    monkeypatch.setenv("SQUEUE_PARTITION", "debug")
    assert "1 queued" in cluster.cli(*cluster.submit).stdout_text
    assert len(cluster.jobs) == 1


def test_filters_of_the_shell_are_not_handed_to_slurm(tmp_path, monkeypatch):
    (tmp_path / "sinfo").write_text("#!/bin/sh\nenv\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("SQUEUE_ACCOUNT", "SACCT_FORMAT", "SINFO_PARTITION", "SCANCEL_STATE", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    seen = dict(line.split("=", 1) for line in call("sinfo").splitlines())
    ours = {k for k in seen if k.startswith(("SLURM", "SQUEUE", "SACCT", "SINFO", "SCANCEL", "SCONTROL"))}
    assert ours == {"SLURM_CONF", "SQUEUE_ALL", "SINFO_ALL", "SCONTROL_ALL"}


def test_wait_tells_what_is_held(cluster):
    seen = "held: requeue hold, JobHeldUser; `scontrol release 100_0` lets it go on"
    cluster.cli(*cluster.submit)
    cluster.change(state="REQUEUE_HOLD", reason="JobHeldUser")
    assert cluster.states("quickstart") == {("queued", seen, "100_0")}
    said = cluster.cli("wait", "quickstart", "--timeout", "3 s", code=8).stderr_text
    assert said.count(seen) == 1


def test_retry_holds_runs_against_the_profile_as_submit_does(cluster):
    big, small = PROFILE.replace("cpus_per_node: 2", "cpus_per_node: 8"), cluster.folder / "small.yaml"
    small.write_text(PROFILE)
    (cluster.folder / "p.yaml").write_text(big)
    cluster.cli(*cluster.submit, "--workers", "8")
    cluster.change(state="", account="CANCELLED")
    refused = cluster.cli(*cluster.submit[:-1], "small.yaml", "--workers", "8", code=2).stderr_text
    assert cluster.cli("retry", "quickstart", "--profile", "small.yaml", code=2).stderr_text == refused
    assert len(cluster.jobs) == 1
    cluster.cli("retry", "quickstart")
    assert len(cluster.jobs) == 2


def test_a_second_submit_asks_squeue_once(cluster):
    cluster.cli(*cluster.submit)
    squeue = cluster.folder / "bin/squeue"
    squeue.write_text(squeue.read_text() + "\nopen(here / 'asked', 'a').write('x')\n")
    begin = time.monotonic()
    cluster.cli(*cluster.submit)
    assert time.monotonic() - begin < 10
    assert (cluster.folder / "asked").read_text() == "x"


def test_what_submit_writes_follows_the_umask(cluster):
    before = os.umask(0o002)
    try:
        cluster.cli(*cluster.submit)
    finally:
        os.umask(before)
    paths = [cluster.folder / "runs", *(cluster.folder / "runs").rglob("*")]
    wanted = {path: 0o775 if path.is_dir() else 0o664 for path in paths}
    assert {path: path.stat().st_mode & 0o777 for path in paths} == wanted
