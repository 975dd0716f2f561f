"""Profiles: checked as studies are."""

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
