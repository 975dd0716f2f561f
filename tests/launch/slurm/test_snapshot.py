"""The code that queued runs use."""

import json
import os
import subprocess
import sys

from medvq.launch.slurm.snapshot import contents, place_of, snapshot


def test_a_snapshot_is_named_by_its_content_and_made_once(tmp_path):
    told = place_of(tmp_path, contents())
    assert not told.exists(), "a dry run only tells where it would be"
    first = snapshot(tmp_path)
    assert first == told
    made = first.stat().st_mtime_ns
    assert snapshot(tmp_path) == first
    assert first.stat().st_mtime_ns == made
    assert json.loads((first / "provenance.json").read_text())["python"]
    where = [sys.executable, "-c", "import medvq; print(medvq.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(first), "PYTHONSAFEPATH": "1"}
    out = subprocess.run(where, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert out.strip() == str(first / "medvq/__init__.py")


def test_what_the_disk_lost_is_made_again(tmp_path):
    folder = snapshot(tmp_path)
    (folder / "medvq/runs/owner.py").write_text("")
    assert snapshot(tmp_path) == folder
    assert (folder / "medvq/runs/owner.py").read_text()


def test_a_users_own_model_goes_along_and_changes_the_name(tmp_path, monkeypatch):
    lab = tmp_path / "src" / "my_lab_nets"
    lab.mkdir(parents=True)
    (lab / "__init__.py").write_text("")
    (lab / "helper.py").write_text("x = 1\n")
    (lab / "nets.py").write_text("from my_lab_nets.helper import x\nclass Net: pass\n")
    monkeypatch.syspath_prepend(lab.parent)
    import my_lab_nets.nets  # noqa: F401

    plain, own = snapshot(tmp_path / "runs"), snapshot(tmp_path / "runs", ["my_lab_nets.nets:Net"])
    assert plain != own
    assert (own / "my_lab_nets/helper.py").read_text() == "x = 1\n"
    (lab / "helper.py").write_text("x = 2\n")
    assert snapshot(tmp_path / "runs", ["my_lab_nets.nets:Net"]) != own
    assert (own / "my_lab_nets/helper.py").read_text() == "x = 1\n"
