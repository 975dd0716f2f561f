"""Identities: what changes a run's numbers changes them, nothing else does, and those of shipped studies are fixed."""

import json
from pathlib import Path

import pytest
from pydantic import Field

from medvq.config.expand import matching
from medvq.config.identity import identity, plain, science
from medvq.config.locate import known
from medvq.config.resolve import load_study
from medvq.config.schema import Schema
from medvq.keys import canonical_json, draw_key

GOLDEN = json.loads(Path(__file__).with_name("identities.json").read_text())
"""Identities of every run of every shipped study. If one changes, everybody who has that run computes it again."""


def identities(study):
    """Identities with stand-ins for dataset digests."""
    found, by_point = {}, {}
    for job, points in study.jobs.items():
        for p in points:
            needs = {}
            for role, need in p.config.needs.items():
                needs[role] = by_point[id(matching(study.jobs[need.job], p.values))]
            source = study.data[p.config.data.use]
            digests = dict.fromkeys(source.origins(p.config.data.use), "0" * 64)
            made = identity(science(p, source, digests, needs))
            by_point[id(p)] = made
            found["/".join([job, *(f"{a}={v}" for a, v in p.values.items())])] = made
    return found


def of(sets=(), digest="0" * 64, study="quickstart"):
    s = load_study(study, sets=sets)
    p = s.jobs["pretrain"][0]
    return identity(science(p, s.data[p.config.data.use], {"cells": digest}, {}))


@pytest.mark.parametrize(
    "text", ["train.seed=5", "train.batch_size=16", "model.beta=0.3", "data.subset=50", "train.epochs=3"]
)
def test_science_changes_it(text):
    assert of([text]) != of()


def test_data_change_it():
    assert of(digest="1" * 64) != of()


@pytest.mark.parametrize(
    "text",
    [
        "resources.workers=1",
        "resources.threads=3",
        "resources.loader_processes=2",
        "resources.checkpoint_every=9 s",
        "about=x",
    ],
)
def test_resources_and_words_do_not_change_it(text):
    assert of([text]) == of()


def test_what_a_run_needs_changes_it():
    assert (
        identities(load_study("quickstart", sets=["pretrain:train.seed=9"]))["finetune/data.subset=100/train.seed=0"]
        != (identities(load_study("quickstart"))["finetune/data.subset=100/train.seed=0"])
    )


MIXED = """\
study: s
data: {both: {mix: {a: {weight: 4, crop: 32}, b: {resize: 32}}, splits: all, draws: 60}}
jobs:
  j:
    task: autoencode
    model: {name: svqvae, levels: 1}
    data: {use: both}
    train: {epochs: 1, batch_size: 8, optimizer: {lr: 1e-3}}
"""


def mixed(tmp_path, text, digests):
    (tmp_path / "s.yaml").write_text(text)
    study = load_study(tmp_path / "s.yaml")
    (point,) = study.jobs["j"]
    return identity(science(point, study.data[point.config.data.use], digests, {}))


def test_a_mixture_is_its_datasets_and_weights_whatever_they_are_called(tmp_path):
    first = mixed(tmp_path, MIXED, {"both.a": "1" * 64, "both.b": "2" * 64})
    renamed = MIXED.replace(
        "{a: {weight: 4, crop: 32}, b: {resize: 32}}", "{z: {resize: 32}, y: {weight: 4, crop: 32}}"
    )
    assert mixed(tmp_path, renamed, {"both.y": "1" * 64, "both.z": "2" * 64}) == first
    assert mixed(tmp_path, MIXED, {"both.a": "2" * 64, "both.b": "1" * 64}) != first
    for old, new in (("weight: 4", "weight: 2"), ("crop: 32", "resize: 32"), ("draws: 60", "draws: 50")):
        assert mixed(tmp_path, MIXED.replace(old, new), {"both.a": "1" * 64, "both.b": "2" * 64}) != first


def test_a_neutral_field_added_later_is_left_out():
    class Now(Schema):
        a: int = 1

    class Later(Schema):
        a: int = 1
        b: int = Field(default=0, json_schema_extra={"neutral": True})

    assert plain(Now()) == plain(Later())
    assert plain(Now()) != plain(Later(b=1))


def test_canonical_json_has_one_text_for_one_value():
    assert canonical_json({"b": 1.0, "a": (1, 2)}) == canonical_json({"a": [1, 2], "b": 1}) == '{"a":[1,2],"b":1}'
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_draw_keys_never_change():
    assert draw_key(0, 0, "flip") == 5385536149735600306
    assert draw_key(0, 1, "flip") != draw_key(0, 0, "flip") != draw_key(0, 0, "rotate")


@pytest.mark.parametrize("name", sorted(known("jobs")))
def test_shipped_studies_keep_their_identities(name):
    assert identities(load_study(name)) == GOLDEN[name]
