#!/usr/bin/env python3
"""Run a real SLURM with several nodes on one Debian machine, without systemd and without touching its network.

Each node has its own network, process, mount, host name and IPC namespaces, and so has the controller with accounting.
See README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import config
from config import CONTROLLER
from hosts import Host, TestbedError, quiet, wait_until

STATE = Path(os.environ.get("MEDVQ_TESTBED", "/var/tmp/medvq-testbed"))
PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge", "iproute2", "util-linux"]
ACCOUNTING = ["slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server-core", "mariadb-client-core"]
POLICY = Path("/usr/sbin/policy-rc.d")
CGROUP = Path("/sys/fs/cgroup")


def install(accounting: bool) -> None:
    """Install Debian's packages, without starting their daemons.

    Raises:
        TestbedError: apt cannot install them.
    """
    wanted = PACKAGES + (ACCOUNTING if accounting else [])
    missing = [p for p in wanted if not quiet("dpkg-query", "-W", "-f=x", p) or not _installed(p)]
    if not missing:
        return
    made = not POLICY.exists()
    if made:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            done = subprocess.run(
                ["apt-get", "-qq", *command], env=environment, capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise TestbedError(f"apt-get cannot install {' '.join(missing)}: {done.stderr.strip()[-400:]}")
    finally:
        if made:
            POLICY.unlink()


def _installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


class Testbed:
    """The controller, its daemons and the nodes, according to `settings` (nodes, cpus, memory, gpus, accounting)."""

    def __init__(self, state: Path, settings: dict[str, int]) -> None:
        self.state, self.settings = state, settings
        self.controller = Host(CONTROLLER, state)
        self.nodes = [Host(f"node{i + 1}", state) for i in range(settings["nodes"])]

    def up(self, shared: list[Path]) -> None:
        """Start what is down; what runs is not touched."""
        self._write()
        self.controller.start()
        self._munge()
        if self.settings["accounting"]:
            self._database()
            self._daemon(
                "slurmdbd", self._answers("sacctmgr", "-n", "show", "cluster"), MYSQL_UNIX_PORT=f"{self.state}/db/sock"
            )
            self.controller.run("sacctmgr", "-i", "add", "cluster", "testbed")
        self._daemon("slurmctld", self._answers("scontrol", "ping"))
        for node in self.nodes:
            self.back(node.name, shared)
        self._wait_idle()

    def back(self, name: str, shared: list[Path]) -> None:
        """Start one node."""
        node = self._node(name)
        node.start()
        node.share(shared)
        (self.state / "spool" / name).mkdir(parents=True, exist_ok=True)
        node.daemon(["slurmd", "-N", name], self._pidfile(f"slurmd-{name}"), self.state / f"log/slurmd-{name}.out", {})

    def stop(self, daemon: str, force: bool) -> None:
        """Stop one daemon: slurmctld, slurmdbd, or slurmd-NODE."""
        host = self._node(daemon.removeprefix("slurmd-")) if daemon.startswith("slurmd-") else self.controller
        pidfile = self._pidfile(daemon)
        if not host.runs(pidfile):
            raise TestbedError(f"{daemon} does not run")
        host.run("kill", "-KILL" if force else "-TERM", pidfile.read_text().strip())
        wait_until(lambda: not host.runs(pidfile), 20, f"{daemon} does not end")

    def cut(self, name: str) -> None:
        """Kill everything on a node at once, as a power cut does."""
        self._node(name).cut()

    def down(self) -> None:
        """Stop everything and remove all files."""
        for host in [*self.nodes, self.controller]:
            host.cut()
        if CGROUP.is_dir():
            for found in CGROUP.glob("*/slurm_node*"):
                for folder in [*sorted(found.glob("**/"), reverse=True), found]:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
        shutil.rmtree(self.state, ignore_errors=True)

    def status(self) -> str:
        """Return which hosts are up, and the nodes as sinfo shows them."""
        lines = [f"{h.name:<6} {'up' if h.pid else 'down'}" for h in [self.controller, *self.nodes]]
        if self.controller.pid:
            command = self.controller.inside("timeout", "20", "sinfo", "-N", "-o", "%N %P %t %c %m %G %E")
            lines.append(subprocess.run(command, capture_output=True, text=True, check=False).stdout.rstrip())
        return "\n".join(lines)

    def _node(self, name: str) -> Host:
        for node in self.nodes:
            if node.name == name:
                return node
        raise TestbedError(f"no node {name!r}; there are {', '.join(n.name for n in self.nodes)}")

    def _pidfile(self, daemon: str) -> Path:
        return self.state / f"{daemon}.pid"

    def _write(self) -> None:
        """Write folders, configuration files and fake GPU devices."""
        s, names = self.settings, [n.name for n in self.nodes]
        cgroup = all(
            (CGROUP / part / "tasks").exists() and os.access(CGROUP / part, os.W_OK) for part in ("freezer", "memory")
        )
        for folder in ("etc/slurm", "log", "spool", "slurmctld", "munge", "devices", "shared", "db"):
            (self.state / folder).mkdir(parents=True, exist_ok=True)
        (self.state / "shared").chmod(0o1777)
        etc = self.state / "etc"
        (etc / "hosts").write_text(config.hosts(names))
        (etc / "slurm/slurm.conf").write_text(
            config.slurm_conf(
                self.state, names, cpus=s["cpus"], memory=s["memory"], gpus=s["gpus"], cgroup=cgroup,
                accounting=bool(s["accounting"]),
            )
        )  # fmt: skip
        (etc / "slurm/gres.conf").write_text(config.gres_conf(self.state, s["gpus"]))
        (etc / "slurm/cgroup.conf").write_text(config.cgroup_conf())
        database = etc / "slurm/slurmdbd.conf"
        database.touch(mode=0o600)
        database.write_text(config.slurmdbd_conf(self.state))
        for i in range(s["gpus"]):
            device = self.state / "devices" / f"gpu{i}"
            if not device.exists():
                os.mknod(device, 0o20666, os.makedev(1, 3))

    def _munge(self) -> None:
        """Start munged; one process serves every host through its socket."""
        key = self.state / "munge.key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(os.urandom(128))
        pidfile = self.state / "munge" / "munged.pid"
        command = [
            "munged",
            "--force",
            f"--key-file={key}",
            f"--pid-file={pidfile}",
            f"--log-file={self.state}/log/munged.log",
            f"--seed-file={self.state}/munge.seed",
            "--socket=/run/munge/munge.socket.2",
            "--num-threads=4",
        ]
        self.controller.daemon(command, pidfile, self.state / "log/munged.out", {})
        wait_until(lambda: self.controller.run("munge", "-n"), 10, f"munged does not answer; see {self.state}/log")

    def _database(self) -> None:
        """Start MariaDB with its own data folder, on a socket."""
        folder, log = self.state / "db", self.state / "log"
        if not (folder / "data/mysql").is_dir():
            make = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={folder}/data",
                    "--auth-root-authentication-method=socket", "--skip-test-db"]  # fmt: skip
            with open(log / "mariadb-install.log", "w") as out:
                subprocess.run(make, stdout=out, stderr=out, check=True)
        command = [
            "mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={folder}/data",
            f"--socket={folder}/sock",
            f"--pid-file={folder}/pid",
            "--skip-networking",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=32M",
            "--innodb-lock-wait-timeout=900",
            "--innodb-flush-log-at-trx-commit=0",
            "--performance-schema=OFF",
        ]
        self.controller.daemon(command, folder / "pid", log / "mariadbd.log", {})
        make = ("mariadb", "--no-defaults", "-S", f"{folder}/sock", "-e", "CREATE DATABASE IF NOT EXISTS slurm_acct_db")
        wait_until(lambda: self.controller.run(*make), 30, f"mariadbd does not answer; see {log}")

    def _daemon(self, name: str, answers: object, **environment: str) -> None:
        self.controller.daemon([name], self._pidfile(name), self.state / f"log/{name}.out", environment)
        wait_until(answers, 40, f"{name} does not answer; see {self.state}/log")  # type: ignore[arg-type]

    def _answers(self, *command: str) -> object:
        return lambda: self.controller.run(*command)

    def _wait_idle(self) -> None:
        def ready() -> bool:
            ask = self.controller.inside("sinfo", "-h", "-N", "-p", "low", "-t", "idle,mix,alloc", "-o", "%N")
            done = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=20)
            return len(set(done.stdout.split())) == len(self.nodes)

        wait_until(ready, 60, f"not every node becomes idle; see {self.state}/log")


def main() -> int:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start what is down; what runs is not touched")
    up.add_argument("--nodes", type=int, default=3)
    up.add_argument("--cpus", type=int, default=4, help="cores that each node declares")
    up.add_argument("--memory", type=int, default=6000, help="MB that each node declares")
    up.add_argument("--gpus", type=int, default=2, help="fake GPUs of each node")
    up.add_argument("--no-accounting", action="store_true", help="do without slurmdbd and database")
    up.add_argument("--share", type=Path, action="append", default=[], help="a folder under /tmp that nodes see, too")
    commands.add_parser("down", help="stop everything and remove all files")
    commands.add_parser("status", help="show what runs")
    cut = commands.add_parser("cut", help="kill everything on a node, as a power cut does")
    cut.add_argument("node")
    back = commands.add_parser("back", help="start a node again")
    back.add_argument("node")
    stop = commands.add_parser("stop", help="stop one daemon; `up` starts it again")
    stop.add_argument("daemon", help="slurmctld, slurmdbd or slurmd-NODE")
    stop.add_argument("--kill", action="store_true", help="with SIGKILL")
    login = commands.add_parser("login", help="run a command on the login host, or a shell")
    login.add_argument("what", nargs=argparse.REMAINDER)
    on = commands.add_parser("on", help="run a command on a node")
    on.add_argument("node")
    on.add_argument("what", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    try:
        return _do(given)
    except TestbedError as e:
        print(f"testbed: {e}", file=sys.stderr)
        return 1


def _do(given: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise TestbedError("this needs root, for namespaces, a network of its own and Debian packages")
    kept = STATE / "settings.json"
    if given.command in ("login", "on"):
        host = Host(CONTROLLER if given.command == "login" else given.node, STATE)
        what = [w for i, w in enumerate(given.what) if (i, w) != (0, "--")]
        command = host.inside(*(what or ["bash"]), root=Path.cwd())
        os.execvp(command[0], command)
    if given.command != "up" and not kept.exists():
        if given.command in ("down", "status"):
            print("down")
            return 0
        raise TestbedError("the testbed is down")
    begin = time.monotonic()
    if given.command == "up" and not kept.exists():
        install(not given.no_accounting)
        STATE.mkdir(parents=True, exist_ok=True)
        settings = {k: getattr(given, k) for k in ("nodes", "cpus", "memory", "gpus")}
        kept.write_text(json.dumps({**settings, "accounting": int(not given.no_accounting), "shared": []}))
    with open(STATE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        settings = json.loads(kept.read_text())
        testbed = Testbed(STATE, settings)
        shared = [Path(p) for p in settings["shared"]]
        if given.command == "up":
            shared = sorted({*shared, *(p.resolve() for p in given.share)})
            kept.write_text(json.dumps({**settings, "shared": [str(p) for p in shared]}))
            testbed.up(shared)
            print(f"up after {time.monotonic() - begin:.1f} s: {STATE}/shared is on every host")
        elif given.command == "down":
            testbed.down()
            print(f"down after {time.monotonic() - begin:.1f} s")
        elif given.command == "status":
            print(testbed.status())
        elif given.command == "cut":
            testbed.cut(given.node)
        elif given.command == "back":
            testbed.back(given.node, shared)
        elif given.command == "stop":
            testbed.stop(given.daemon, given.kill)
    return 0


if __name__ == "__main__":
    sys.exit(main())
