"""Profiles are checked like studies."""

import re
from pathlib import Path

import pytest

from medvq.config.locate import known
from medvq.config.profile import Slurm, load_profile
from medvq.errors import ConfigError


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
    assert len(blocks) == 6
    for block in blocks:
        (tmp_path / "p.yaml").write_text(block)
        assert load_profile(tmp_path / "p.yaml").slurm is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time: 10 min, grace: 6 min", "more than half"),
        ("time: 1 h, extra: [--signal=USR1]", "--signal is set by medvq"),
        ("time: 1 h, extra: [-a0-3]", "-a is set by medvq, not by -a0-3"),
        ("time: 1 h, extra: [-HQa0-3]", "-a is set by medvq, not by -HQa0-3"),
        ("time: 1 h, extra: ['--hold --open=truncate']", "--open-mode is set by medvq, not by --open=truncate"),
        ("time: 1 h, extra: [--no-req]", "--no-requeue is set by medvq"),
        ("time: 1 h, extra: [--nodes=1]", "--nodes is set by the key `nodes`"),
        ("time: 1 h, extra: ['-t 5']", "-t is set by the key `time`"),
        ("time: 1 h, extra: [--time=5]", "--time is set by the key `time`"),
        ("time: 1 h, extra: [--gpus-per-n=2]", "--gpus-per-node is set by the key `gpus_per_node`"),
        ("time: 1 h, extra: [--gres=lscratch:1]", "--gres is set by the key `gres`"),
        ("time: 1 h, extra: [--comment=x]", "--comment is set by the key `comment`"),
        ("time: 1 h, comment: 'a|b'", "one line without"),
        ("time: 1 h, gres: ['gpu:2']", "set by the keys `gpus_per_node` and `gpu_type`"),
        ("time: 1 h, gres: ['a:1,b:2']", "not a generic resource"),
        ("time: 1 h, gres: 'lscratch:100'", r"(?s)should be a list.*brackets: \[\"lscratch:100\"\]"),
        ("time: 1 h, setup: module load x", r"(?s)should be a list.*brackets: \[\"module load x\"\]"),
        ("time: 1 h, memory_per: gpu", "needs gpus_per_node"),
        ("time: 1 h, extra: [--clusters=x]", "--clusters is refused"),
        ("time: 1 h, extra: [--cluster=x]", "--clusters is refused.*in --cluster=x"),
        ("time: 1 h, extra: ['-M x']", "-M is refused"),
        ("time: 1 h, extra: [-Mx]", "-M is refused"),
        ("time: 1 h, extra: [--cluster-constraint=x]", "--cluster-constraint is refused"),
        ("time: 1 h, extra: [--wait]", "--wait is refused"),
        ("time: 1 h, extra: ['--hold -HW']", "-W is refused.*in -HW"),
        ("time: 1 h, extra: [--test-only]", "--test-only is refused"),
        ("time: 1 h, extra: [--parsable]", "--parsable is refused"),
        ("time: 1 h, extra: [-Q]", "-Q is refused"),
        ("time: 1 h, extra: [--uid=1]", "--uid is refused"),
        ("time: 1 h, extra: [--wrap=true]", "--wrap is refused"),
        ("time: 1 h, extra: [--mem-per-cpu=2G]", "--mem-per-cpu is set by the key `memory_gb`"),
        ("time: 1 h, extra: [-pgpu]", "-p is set by the key `partition`"),
        ("time: 1 h, extra: ['--hold \"']", "No closing quotation"),
        ("time: 3600", "3600 of what\\? write a duration like 90 s, 5 min or 1.5 h"),
        ("time: 1 h, extra: [gpu]", "not an option of sbatch"),
    ],
)
def test_what_runs_depend_on_cannot_be_overridden(tmp_path, text, words):
    (tmp_path / "p.yaml").write_text(f"name: p\nwhere: slurm\nslurm: {{{text}}}\n")
    with pytest.raises(ConfigError, match=words):
        load_profile(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    "option",
    ["--hold", "-H", "--nodelist=node1", "-wnode1", "--mail-user=me@example.org", "--mail-type=ALL", "--nice=100",
     "--reservation=course", "--exclusive", "--hint=nomultithread", "--container-image=a:b", "--mem-bind=local",
     "--gres-flags=enforce-binding", "--time-min=5", "--distribution block", "-L matlab", "--licenses=a:1 --contiguous",
     "--gpu-bind=closest", "--cpu-freq=high", "--no-kill", "--begin=now+1hour"],
)  # fmt: skip
def test_what_has_no_key_goes_to_sbatch_as_it_is(option):
    assert Slurm(time="1 h", extra=(option,)).extra == (option,)
