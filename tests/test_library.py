"""The library at a glance: what `import medvq` shows, how light it is, and that every documented example works."""

import doctest
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import medvq
from medvq.errors import ConfigError, NotFoundError, RunsFailedError, StoppedError, UsageError

TOP = Path(__file__).resolve().parents[1]
PUBLIC = [name for name in medvq.__all__ if name != "__version__"]
HEAVY = ["torch", "ray", "numpy", "pyarrow", "pydantic", "matplotlib"]


@pytest.fixture(scope="module")
def workspace(smear, tmp_path_factory):
    """A user's folder as after the first two commands of the README: `data/smear` and `datasets/smear`."""
    folder = tmp_path_factory.mktemp("library")
    shutil.copytree(smear.parent / "tree", folder / "data/smear")
    medvq.pack(folder / "data/smear", folder / "datasets/smear", recipe="quickstart", processes=1)
    return folder


@pytest.fixture
def here(workspace, monkeypatch):
    """The workspace as the current folder."""
    monkeypatch.chdir(workspace)
    return workspace


@pytest.fixture
def pretrained(here):
    """A finished run in the workspace; the same as in the examples, so that it is trained once."""
    return medvq.run("quickstart", smoke=True, only="pretrain", data={"cells": "datasets/smear"}, workers=0)


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout


def test_importing_is_light():
    code = f"import sys, medvq; dir(medvq), medvq.__version__; print([m for m in {HEAVY} if m in sys.modules])"
    assert python(code) == "[]\n"


def test_what_needs_no_torch_imports_neither_torch_nor_ray():
    names = ["list_models", "load_study", "results", "pack", "open_dataset", "run"]
    code = (
        f"import sys, medvq; [getattr(medvq, n) for n in {names}]; print('torch' in sys.modules, 'ray' in sys.modules)"
    )
    assert python(code) == "False False\n"


def test_every_public_name_is_there_documented_and_listed():
    assert set(medvq.__all__) <= set(dir(medvq))
    for name in PUBLIC:
        shown = getattr(medvq, name)
        assert shown.__name__ == name
        assert inspect.getdoc(shown).count(">>> import medvq") == 1, f"{name} has no example"
        assert name in medvq.__doc__
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        _ = medvq.unknown


def test_options_are_keyword_only():
    for name in set(PUBLIC) - {"Loader"}:
        by_position = [
            p for p in inspect.signature(getattr(medvq, name)).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD
        ]
        assert all(p.default is p.empty for p in by_position), name


def test_results_stays_a_function_whatever_is_imported_before_and_after():
    for order in ("import medvq.results.cells, medvq", "import medvq; medvq.results; import medvq.results.intervals"):
        assert python(f"{order}; print(type(medvq.results).__name__)") == "function\n"
    assert python("from medvq import results; print(callable(results))") == "True\n"


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_in_docstrings_work(name, here, request):
    if name in ("results", "load"):
        request.getfixturevalue("pretrained")
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(medvq, name), name, globs={})
    said = []
    found = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=said.append)
    assert found.attempted > 1
    assert found.failed == 0, "".join(said)


def test_the_example_of_the_readme_works(here, capsys):
    section = (TOP / "README.md").read_text().split("### As a library")[1].split("\n### ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(code, {})
    assert "pretrain" in capsys.readouterr().out


def test_types_are_seen_by_mypy():
    """mypy's cache is that of `make lint`."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/library_types.py"], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_packing_does_what_the_command_does(here, cli_in):
    report = medvq.pack("data/smear", "datasets/by-library", recipe="smear", size=(24, 32), processes=1)
    told = cli_in(here).json("shard", "data/smear", "datasets/by-command", "--recipe", "smear", "--size", "24x32")
    assert {**vars(report), "dataset": ""} == {**told, "dataset": ""}
    assert (here / "datasets/by-library/index.parquet").read_bytes() == (
        here / "datasets/by-command/index.parquet"
    ).read_bytes()


def test_wrong_arguments_are_refused_with_our_errors(here):
    with pytest.raises(UsageError, match="is no size"):
        medvq.pack("data/smear", "datasets/new", size=(1, 2, 3))
    with pytest.raises(UsageError, match="did you mean skip"):
        medvq.pack("data/smear", "datasets/new", on_bad="skp")
    with pytest.raises(NotFoundError, match="no recipe named"):
        medvq.pack("data/smear", "datasets/new", recipe="smaer")
    with pytest.raises(ConfigError, match=r"unknown key 'chanels'.*did you mean channels"):
        medvq.create_model("vqvae", input_shape=(3, 64, 64), chanels=3)
    with pytest.raises(UsageError, match="unknown model"):
        medvq.create_model("vqva", input_shape=(3, 64, 64))
    with pytest.raises(UsageError, match="has no split 'vali'"):
        medvq.Loader.open("datasets/smear", split="vali", batch_size=2)
    study = medvq.load_study("quickstart", smoke=True)
    with pytest.raises(UsageError, match="give them to load_study"):
        medvq.run(study, smoke=True)
    with pytest.raises(ConfigError, match="workers"):
        medvq.run(study, workers=-1)
    with pytest.raises(NotFoundError, match="no runs of a study named 'nothing'"):
        medvq.results("nothing")


def test_sets_are_a_mapping_or_the_texts_of_the_command():
    by_mapping = medvq.load_study("quickstart", sets={"pretrain:train.epochs": 3, "model.head": [8, 4]})
    by_text = medvq.load_study("quickstart", sets=["pretrain:train.epochs=3", "model.head=[8, 4]"])
    assert by_mapping == by_text


def test_running_is_what_the_command_does(pretrained, here, cli_in):
    """The command finds the run done, and gives the same tables."""
    cli = cli_in(here)
    data = "cells=datasets/smear"
    told = cli.json("run", "quickstart", "--smoke", "--only", "pretrain", "--data", data, "--workers", "0")
    (run,) = pretrained
    (record,) = told["runs"]
    assert (run.name, run.state, run.metrics) == (record["run"], "done", record["metrics"])
    assert json.loads((run.folder / "result.json").read_text())["metrics"] == run.metrics
    assert str(pretrained).splitlines()[0] == "quickstart-smoke: 1 runs in runs/quickstart-smoke"
    found = pretrained.results()
    printed = cli.json("results", "quickstart-smoke")
    assert found.to_dicts() == [
        {"table": name, **cell} for name, table in printed["tables"].items() for cell in table["cells"]
    ]
    assert str(found) == cli("results", "quickstart-smoke").stdout_text.rstrip("\n")
    table = found.tables["reconstruction"]
    assert (table.rows, table.columns[0]) == (["pretrain"], "test/mse")
    assert table._repr_markdown_().startswith("**reconstruction**")
    frame = found.to_pandas()
    assert list(frame.columns)[:4] == ["table", "row", "column", "mean"]
    assert len(frame) == len(found.to_dicts())


def test_what_goes_wrong_in_runs_is_an_error_and_nothing_is_printed(here, capfd):
    options = {"only": "pretrain", "data": {"cells": "datasets/smear"}, "workers": 0, "runs": "runs-bad"}
    wild = medvq.load_study("quickstart", smoke=True, sets={"pretrain:train.optimizer.lr": 1e12})
    said = []
    with pytest.raises(RunsFailedError, match="1 of 1 runs did not finish"):
        medvq.run(wild, **options, say=said.append)
    assert any("failed" in line and "finite" in line for line in said)
    with pytest.raises(StoppedError):
        medvq.run(medvq.load_study("quickstart", smoke=True, sets={"train.epochs": 500}), **options, time_budget="1 s")
    assert capfd.readouterr() == ("", "")
