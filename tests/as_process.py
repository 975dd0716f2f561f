"""Processes for tests that start at once: forked from one that has imported what medvq's commands import.

What a process does is the same as in a new Python: its own environment, folder, arguments and files.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    ["__main__", "as_process", "medvq.cli", "medvq.launch.describe", "medvq.launch.scheduler", "medvq.results.compare",
     "medvq.results.render", "medvq.shards.pack.pack", "medvq.shards.load.loader", "medvq.train.run",
     "medvq.train.tasks.autoencode.task", "medvq.train.tasks.classify.task", "medvq.workers.group", "pyarrow.parquet"]
)  # fmt: skip


class Forked:
    """A process that runs a script, or the command line as `medvq`: `argv` is the name and its arguments."""

    def __init__(self, argv, folder, env=None):
        self.output = tempfile.TemporaryDirectory()
        argv, env = [str(a) for a in argv], {**os.environ, **(env or {})}
        umask = os.umask(0)
        os.umask(umask)
        self.process = _server.Process(target=_main, args=(argv, str(folder), env, umask, self.output.name))
        self.process.start()

    def wait(self, timeout):
        """Return the exit code, and stdout and stderr as text; end the process if it is not done after `timeout` s."""
        self.process.join(timeout)
        in_time = self.process.exitcode is not None
        self.kill()
        with self.output:
            stdout, stderr = (Path(self.output.name, name).read_text() for name in ("stdout", "stderr"))
        if not in_time:
            raise subprocess.TimeoutExpired("a forked process", timeout, stdout, stderr)
        return self.process.exitcode, stdout, stderr

    def kill(self):
        """End the process, if it goes on."""
        self.process.kill()
        self.process.join()


def _main(argv, folder, env, umask, output):
    os.umask(umask)
    for name, number in (("stdout", 1), ("stderr", 2)):
        file = os.open(os.path.join(output, name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv
    try:
        if argv[0] == "medvq":
            sys.path.insert(0, "")
            from medvq.cli import main

            main()
        else:
            runpy.run_path(argv[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends a process without them
