"""Optional packages: medvq works without them, and says which extra installs the one that is needed."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from medvq.errors import MissingError
from medvq.extras import EXTRAS, is_installed, require
from medvq.launch.packages import check_packages

TOP = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def medvq_without(tmp_path_factory):
    """Run medvq in a process that cannot import some packages, always in the same folder."""
    folder = tmp_path_factory.mktemp("without")

    def run(hidden, *args):
        hide = f"import sys; sys.modules.update(dict.fromkeys({list(hidden)!r}))"
        command = [sys.executable, "-c", f"{hide}; from medvq.cli import main; main()", *args]
        env = {**os.environ, "PYTHONPATH": str(TOP)}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    run.folder = folder
    return run


def test_the_extras_are_those_of_the_package():
    metadata = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*EXTRAS.values(), "all", "dev"} == set(metadata)
    assert metadata["all"] == [f"medvq[{','.join(EXTRAS.values())}]"]


def test_what_is_missing_is_named_with_its_extra(monkeypatch):
    require("sklearn", "the task probe")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert not is_installed("sklearn")
    with pytest.raises(MissingError, match="sklearn is not installed; it is needed for the task probe") as e:
        require("sklearn", "the task probe", where="job p", otherwise="leave it out")
    assert (e.value.where, e.value.hint) == ("job p", "pip install 'medvq[probe]', or leave it out")
    with pytest.raises(MissingError) as e:
        require("no_such_module", "a user's own task")
    assert e.value.hint == "pip install no_such_module"


@pytest.mark.parametrize(
    ("task", "launcher", "workers", "hint"),
    [
        ("probe", "ray", 0, "medvq[probe]"),
        ("probe", "ray", 1, "medvq[ray]"),
        ("classify", "ray", "auto", "medvq[ray]"),
        ("classify", "ray", 0, None),
        ("classify", "torchrun", 2, None),
    ],
)
def test_packages_of_a_run_are_those_of_its_launcher_and_its_task(monkeypatch, task, launcher, workers, hint):
    for module in ("ray", "sklearn"):
        monkeypatch.setitem(sys.modules, module, None)
    resources = SimpleNamespace(launcher=launcher, workers=workers)
    runs = [SimpleNamespace(job="j", config=SimpleNamespace(task=task, resources=resources))]
    if hint is None:
        check_packages(runs)
        return
    with pytest.raises(MissingError) as e:
        check_packages(runs)
    assert hint in e.value.hint


def test_a_run_in_one_process_needs_none_of_them(medvq_without):
    done = medvq_without(EXTRAS, "run", "quickstart", "--smoke", "--workers", "0", "--only", "pretrain")
    assert done.returncode == 0, done.stderr
    assert "reconstruction:" in done.stdout
    (log,) = (medvq_without.folder / "runs").rglob("attempt-1-rank-0.log")
    assert log.read_text().count("no TensorBoard curves") == 1
    assert not list((medvq_without.folder / "runs").rglob("tensorboard"))


def test_workers_without_ray_are_an_error_of_the_environment(medvq_without):
    done = medvq_without(["ray"], "run", "quickstart", "--smoke", "--only", "scratch", "--json")
    assert done.returncode == 4, done.stderr
    found = json.loads(done.stdout)
    assert found["code"] == 4
    assert found["where"] == "job scratch"
    assert found["hint"].startswith("pip install 'medvq[ray]', or ")


def test_nothing_is_sent_to_slurm_that_could_not_run_there(medvq_without):
    (medvq_without.folder / "p.yaml").write_text("name: p\nwhere: slurm\nslurm: {time: 1 h}\n")
    done = medvq_without(["ray"], "submit", "quickstart", "--smoke", "--only", "scratch", "--profile", "p.yaml")
    assert done.returncode == 4
    assert "pip install 'medvq[ray]'" in done.stderr
    assert not list((medvq_without.folder / "runs").rglob("submissions"))


def test_doctor_warns_of_what_is_missing(medvq_without):
    done = medvq_without(["ray", "torchvision"], "doctor", "--json")
    warnings = {c["what"]: c["mend"] for c in json.loads(done.stdout)["checks"] if c["level"] == "warn"}
    assert warnings["ray is not installed"] == "pip install 'medvq[ray]'"
    assert warnings["torchvision is not installed"] == "pip install 'medvq[vision]'"
