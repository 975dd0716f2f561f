"""Fixtures for tests of several packages: the command line in its own process, and one small packed dataset."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from as_process import Forked

TOP = Path(__file__).resolve().parents[1]
SHARED = TOP.parent / "shared"
MEDVQ = [sys.executable, "-c", "from medvq.cli import main; main()"]


class Finished(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout_text: str
    stderr_text: str


class Cli:
    """Runs medvq as a user does, in a folder of its own: calls are forked, `start` starts a new Python."""

    def __init__(self, folder):
        self.folder = folder

    def start(self, *args, env=None, **options):
        env = {**os.environ, "PYTHONPATH": str(TOP), "COLUMNS": "200", **(env or {})}
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen([*MEDVQ, *map(str, args)], cwd=self.folder, env=env, **out)

    def __call__(self, *args, code=0, timeout=300):
        process = Forked(["medvq", *args], self.folder, {"PYTHONPATH": str(TOP), "COLUMNS": "200"})
        try:
            found = Finished(*process.wait(timeout))
        except subprocess.TimeoutExpired as e:
            pytest.fail(f"not done after {timeout} s\n{e.stdout}\n{e.stderr}")
        finally:
            process.kill()  # otherwise it would run during all later tests
        assert code is None or found.returncode == code, (
            f"exit {found.returncode}\n{found.stdout_text}\n{found.stderr_text}"
        )
        assert "Traceback" not in found.stderr_text, found.stderr_text
        return found

    def json(self, *args, **options):
        return json.loads(self(*args, "--json", **options).stdout_text)


@pytest.fixture(scope="session")
def cli_in():
    """A command line in a folder."""
    return Cli


@pytest.fixture
def cli(tmp_path):
    """A command line in an empty folder."""
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def smear(tmp_path_factory):
    """A packed synthetic smear: 120 images of 32 px."""
    from medvq.config.locate import find
    from medvq.config.recipe import load_recipe
    from medvq.shards.pack.pack import pack
    from medvq.shards.synth.smear import smear as draw

    folder = tmp_path_factory.mktemp("smear")
    draw(folder / "tree", samples=120, size=32)
    pack(folder / "tree", folder / "smear", load_recipe(find("shards", "smear")), processes=1)
    return folder / "smear"


@pytest.fixture(scope="session")
def real():
    """The folder of real images; tests that need it are skipped if it does not exist."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real images beside the checkout")
    return SHARED / "data"


@pytest.fixture(scope="session")
def torchvision():
    """`torchvision.transforms.v2.functional`: the reference for rotations and colour changes."""
    from medvq.models.vision import import_torchvision

    return import_torchvision("torchvision.transforms.v2.functional")
