"""Every configuration class is frozen, refuses unknown keys, and documents every field."""

import pytest
from pydantic import ValidationError

import medvq.config.profile
import medvq.config.recipe
import medvq.config.study
import medvq.config.task_info
import medvq.models.svqvae.settings
import medvq.models.vqvae.settings
import medvq.train.tasks.autoencode.info
import medvq.train.tasks.classify.info
import medvq.train.tasks.probe.info
from medvq.config.schema import Schema


def subclasses(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


CLASSES = sorted({c for c in subclasses(Schema) if c.__module__.startswith("medvq.")}, key=lambda c: c.__qualname__)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__qualname__)
def test_every_field_is_documented(kind):
    missing = [name for name, field in kind.model_fields.items() if not field.description]
    assert not missing
    assert kind.__doc__


def test_frozen_keyword_only_and_closed():
    view = medvq.config.study.ViewConfig(use="x")
    with pytest.raises(ValidationError):
        view.use = "y"
    with pytest.raises(TypeError):
        medvq.config.study.ViewConfig("x")
    with pytest.raises(ValidationError):
        medvq.config.study.ViewConfig(use="x", usee="y")
