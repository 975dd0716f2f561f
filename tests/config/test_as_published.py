"""Mistakes of papers: off by default, described, and in the identity if they are on."""

import pytest

from medvq.config.as_published import switches
from medvq.config.identity import identity, science
from medvq.config.resolve import load_study
from medvq.config.task_info import find_task
from medvq.errors import ConfigError
from medvq.models.vqvae.settings import VQVAESettings

ALL = {
    "best_on_test",
    "mask_clip_normalized",
    "softmax_in_head",
    "ema_cold_start",
    "codebook_update_per_encode",
    "ssim_own_range",
    "norms_weigh_less",
}


def first(sets=()):
    study = load_study("quickstart", sets=sets)
    return study, study.jobs["finetune"][0]


def test_every_switch_is_offered_and_says_what_it_does():
    models = (first()[1].model, VQVAESettings())
    offered = {
        k: v for model in models for t in ("autoencode", "classify") for k, v in switches(find_task(t), model).items()
    }
    assert set(offered) == ALL
    assert all(len(about) > 20 for about in offered.values())


def test_nothing_is_on_by_default_and_what_is_on_is_science():
    def made(sets=()):
        study, point = first(sets)
        return identity(science(point, study.data["cells"], {"d": "0"}, {"init": "1"}))

    assert first()[1].config.as_published == ()
    on = made(["finetune:as_published=[softmax_in_head,best_on_test]"])
    assert on != made()
    assert on == made(["finetune:as_published=[best_on_test,softmax_in_head]"]), "their order is none"


@pytest.mark.parametrize(
    ("job", "name", "hint"),
    [("finetune", "softmax_in_hed", "softmax_in_head"), ("pretrain", "softmax_in_head", "known:")],
)
def test_an_unknown_one_names_the_nearest(job, name, hint):
    with pytest.raises(ConfigError) as e:
        load_study("quickstart", sets=[f"{job}:as_published=[{name}]"])
    (problem,) = e.value.problems
    assert name in problem.error
    assert hint in problem.hint
