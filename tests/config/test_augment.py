"""The schema of random changes: short forms, identities, and errors that name their line."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from medvq.config.augment import Augment
from medvq.config.data import ViewConfig
from medvq.config.identity import plain
from medvq.config.resolve import load_study
from medvq.config.yamlfile import parse_yaml
from medvq.errors import ConfigError

STUDY = """\
study: s
data:
  colour: {dataset: d, size: 32}
  grey: {dataset: d, size: 32, channels: 1}
jobs:
  fit:
    task: autoencode
    model: {name: svqvae, levels: 1, channels: 8, residual_blocks: 1, codebook_size: 16, head: [8]}
    train: {epochs: 1, batch_size: 8, optimizer: {lr: 1e-3}}
    data:
      use: colour
      augment:
        hue: 0.1
"""


def test_an_amount_alone_is_the_short_form():
    short = Augment(brightness=0.2, hue=0.1, translate=0.1, scale=[0.9, 1.1], blur=1, noise=[0, 0.05])
    assert short == Augment(
        brightness={"strength": 0.2, "p": 1},
        hue={"strength": 0.1},
        translate={"fraction": 0.1},
        scale={"factor": (0.9, 1.1)},
        blur={"sigma": (1.0, 1.0)},
        noise={"std": (0.0, 0.05)},
    )


def test_what_is_off_does_not_enter_the_identity():
    off = dict.fromkeys(("brightness", "contrast", "saturation", "hue", "translate", "blur", "noise"), 0)
    assert plain(Augment(**off, scale=None, elastic=None)) == {"flip": False, "rotate": 0.0}
    view = plain(ViewConfig(use="x", augment=Augment(flip=True, blur={"sigma": 1, "p": 0.5}, hue=0.1)))
    assert view["augment"] == {
        "flip": True,
        "rotate": 0.0,
        "blur": {"sigma": [1.0, 1.0], "p": 0.5},
        "hue": {"strength": 0.1},
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"brightness": 1.5}, "less than or equal to 1"),
        ({"brightness": -0.1}, "greater than 0"),
        ({"contrast": {"strength": 0.2, "p": 0}}, "greater than 0"),
        ({"contrast": {"p": 0.5}}, "required"),
        ({"saturation": True}, "valid dictionary"),
        ({"hue": 0.6}, "less than or equal to 0.5"),
        ({"translate": 1}, "less than 1"),
        ({"scale": 1.1}, "valid tuple"),
        ({"scale": [1.2, 0.8]}, "lower end 1.2 is above the upper end 0.8"),
        ({"scale": [0, 1]}, "must be positive"),
        ({"blur": [2, 1]}, "lower end 2 is above the upper end 1"),
        ({"blur": -1}, "must not be negative"),
        ({"noise": [-0.1, 0.1]}, "must not be negative"),
        ({"elastic": 2}, "valid dictionary"),
        ({"elastic": {"displacement": 9, "spacing": 16}}, "at most half of spacing"),
    ],
)
def test_amounts_that_make_no_sense_are_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        Augment(**given)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("hue: 0.1", "hue: 0.7", "s.yaml:13: jobs.fit.data.augment.hue.strength: Input should be less than"),
        ("hue: 0.1", "hew: 0.1", "s.yaml:13: jobs.fit.data.augment.hew: unknown key 'hew' (did you mean hue?)"),
        ("hue: 0.1", "hue: {strength: 0.1, prob: 1}", "s.yaml:13: jobs.fit.data.augment.hue.prob: unknown key 'prob'"),
        ("use: colour", "use: grey", "s.yaml:13: jobs.fit.data.augment.hue: grey images have no hue"),
    ],
)
def test_errors_name_their_line(tmp_path, old, new, said):
    (tmp_path / "s.yaml").write_text(STUDY)
    load_study(tmp_path / "s.yaml")
    (tmp_path / "s.yaml").write_text(STUDY.replace(old, new))
    with pytest.raises(ConfigError) as error:
        load_study(tmp_path / "s.yaml")
    assert said in str(error.value)


def test_the_example_of_the_documentation_is_valid():
    text = (Path(__file__).resolve().parents[2] / "jobs/README.md").read_text().split("## Augmentation", 1)[1]
    example = parse_yaml(text.split("```yaml\n", 1)[1].split("```", 1)[0]).data
    assert ViewConfig(**example["data"]).augment.hue.p == 0.8
    documented = {line.split("`")[1] for line in text.split("## ", 1)[0].splitlines() if line.startswith("| `")}
    assert documented | {"fill"} == set(Augment.model_fields)


def test_grey_images_may_change_in_brightness(tmp_path):
    (tmp_path / "s.yaml").write_text(STUDY.replace("use: colour", "use: grey").replace("hue: 0.1", "brightness: 0.1"))
    load_study(tmp_path / "s.yaml")
