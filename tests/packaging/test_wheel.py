"""The wheel works outside the checkout: studies, recipes and profiles are inside."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """medvq from its wheel in an environment of its own, which borrows the packages that it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", TOP]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    (site,) = (folder / "env/lib").glob("*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([folder / "env/bin/pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    return folder / "env/bin/medvq"


def test_everything_works_outside_the_checkout(installed, tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*args):
        done = subprocess.run([installed, *args], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    python = installed.with_name("python")
    where = subprocess.run(
        [python, "-c", "import medvq; print(medvq.__file__)"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert str(installed.parents[1]) in where.stdout, "not the checkout"
    told = "import importlib.metadata as m, pathlib, medvq; folder = pathlib.Path(medvq.__file__).parent"
    facts = (
        "medvq.__version__ == m.version('medvq'), (folder / 'shipped/jobs/PUBLISHED.md').exists(), medvq.list_models()"
    )
    assert subprocess.run(
        [python, "-c", f"{told}; print({facts})"], cwd=tmp_path, env=env, capture_output=True, text=True
    ).stdout.startswith("True True ['svqvae'")
    (wheel,) = (installed.parents[2] / "dist").glob("*.whl")
    assert run("--version") == f"medvq {wheel.name.split('-')[1]}\n"
    assert "quickstart" in run("describe")
    run("synth", "smear", "tree", "--samples", "40", "--size", "32")
    run("shard", "tree", "ds", "--recipe", "smear")
    assert "majority class" in run("run", "quickstart", "--smoke", "--workers", "1")
    assert "nothing to do" in run("run", "quickstart", "--smoke")
    profile = "from medvq.config.profile import load_profile; print(load_profile('gpu').where)"
    assert (
        subprocess.run([python, "-c", profile], cwd=tmp_path, env=env, capture_output=True, text=True).stdout
        == "slurm\n"
    )
