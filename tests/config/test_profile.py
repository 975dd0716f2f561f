"""Profiles: checked as studies are."""

import re
from pathlib import Path

import pytest

from medvq.config.errors import ConfigError
from medvq.config.locate import known
from medvq.config.profile import load_profile


@pytest.mark.parametrize("name", sorted(known("slurm")))
def test_shipped_profiles_are_valid(name):
    assert load_profile(name).name == name


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: a\nwhere: slurm\nslurm: {tme: 1 h}\n", 3, "did you mean time?"),
        ("name: a\nwhere: slurm\nslurm: {time: soon}\n", 3, "not a duration"),
        ("name: a\nwhere: slurm\n", 1, "belongs to"),
        ("name: a\nwhere: moon\n", 2, "'here' or 'slurm'"),
    ],
)
def test_mistakes_name_their_line(tmp_path, text, line, words):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as e:
        load_profile(path)
    assert words in str(e.value)
    assert str(path) in str(e.value)
    assert line == 1 or f"{path}:{line}" in str(e.value)


def test_the_profiles_of_the_readme_are_valid(tmp_path):
    text = (Path(__file__).resolve().parents[2] / "slurm/README.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        (tmp_path / "p.yaml").write_text(block)
        assert load_profile(tmp_path / "p.yaml").slurm is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time: 10 min, grace: 6 min", "more than half"),
        ("time: 1 h, extra: [--signal=USR1]", "--signal is set by medvq"),
        ("time: 1 h, extra: [gpu]", "not an option of sbatch"),
    ],
)
def test_what_runs_depend_on_cannot_be_overridden(tmp_path, text, words):
    (tmp_path / "p.yaml").write_text(f"name: p\nwhere: slurm\nslurm: {{{text}}}\n")
    with pytest.raises(ConfigError, match=words):
        load_profile(tmp_path / "p.yaml")
