"""Rates against torch's schedulers, optimizers against textbook steps, and options that only change rounding."""

import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from medvq.config.identity import plain
from medvq.config.study import Optimizer, Train
from medvq.train.optim import clip, lr_at, make_optimizer

STEPS = 7


def settings(schedule="constant", epochs=10, **more):
    optimizer = {"lr": 0.3, **more.pop("optimizer", {})}
    return Train(epochs=epochs, batch_size=8, schedule=schedule, optimizer=optimizer, **more)


def theirs(make, per_step, epochs=10):
    """The rate and beta1 of every step by one of torch's schedulers."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.3, betas=(0.9, 0.99))
    scheduler, found = make(optimizer), []
    for _ in range(epochs):
        for _ in range(STEPS):
            found.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
            optimizer.step()
            if per_step:
                scheduler.step()
        if not per_step:
            scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "per_step", "make"),
    [
        ("constant", False, lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
        ("cosine", False, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10)),
        ({"name": "cosine", "t_max": 20}, False, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20)),
        ({"name": "step", "every": 3, "gamma": 0.5}, False, lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5)),
        ("onecycle", True, lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.3, total_steps=70)),
        (
            {"name": "onecycle", "pct_start": 0.45, "div_factor": 7, "final_div_factor": 3, "momentum": [0.5, 0.8]},
            True,
            lambda o: torch.optim.lr_scheduler.OneCycleLR(
                o, 0.3, 70, None, None, 0.45, base_momentum=0.5, max_momentum=0.8, div_factor=7, final_div_factor=3
            ),
        ),
        (
            {"name": "onecycle", "momentum": None},
            True,
            lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.3, total_steps=70, cycle_momentum=False),
        ),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_rates_are_torchs(schedule, per_step, make):
    other = theirs(make, per_step)
    ours = [lr_at(settings(schedule), step, STEPS) for step in range(10 * STEPS)]
    found = [(r.lr, 0.9 if r.momentum is None else r.momentum) for r in ours]
    torch.testing.assert_close(torch.tensor(found).double(), torch.tensor(other).double(), rtol=1e-6, atol=1e-15)


def test_a_cosine_that_has_ended_stays_at_zero():
    found = [lr_at(settings({"name": "cosine", "t_max": 4}), step * STEPS, STEPS).lr for step in range(10)]
    assert found[3] > 0
    assert found[4:] == [0.0] * 6


def test_the_published_cycle_of_the_mask_task():
    """As published in the hematologic study: a maximum of 0.01 starts at 4e-4 and ends at 4e-8, beta1 0.85 to 0.95."""
    s = settings("onecycle", optimizer={"name": "adam", "lr": 0.01})
    found = [lr_at(s, step, STEPS) for step in range(70)]
    assert found[0].lr == pytest.approx(4e-4)
    assert found[-1].lr == pytest.approx(4e-8)
    assert max(r.lr for r in found) == pytest.approx(0.01)
    assert (found[0].momentum, min(r.momentum for r in found)) == pytest.approx((0.95, 0.85))


def test_a_rate_reaches_the_optimizer():
    model = torch.nn.Linear(2, 2)
    for name, key in (("adamw", "betas"), ("sgd", "momentum")):
        s = settings("onecycle", optimizer={"name": name, "momentum": 0.9})
        optimizer = make_optimizer(model, s)
        lr_at(s, 0, STEPS).apply(optimizer)
        group = optimizer.param_groups[0]
        assert group["lr"] == pytest.approx(0.3 / 25)
        assert (group[key][0] if key == "betas" else group[key]) == 0.95


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_parameter_may_have_its_first_gradient_later_than_others(name):
    early, late = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    s = settings(optimizer={"name": name, "lr": 0.1, "momentum": 0.9})
    optimizer = make_optimizer(torch.nn.ParameterList([early, late]), s, fused=True)
    for used in ([early], [early, late]):
        for parameter in used:
            parameter.grad = torch.ones(2)
        optimizer.step()
    assert (late < 1).all()
    assert (early < late).all()


@pytest.mark.parametrize("fused", [False, True])
def test_sgd_is_the_textbook_step(fused):
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    model = torch.nn.ParameterList([weight])
    s = settings(optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.5})
    optimizer = make_optimizer(model, s, fused=fused)
    w, v = weight.detach().clone().double(), torch.zeros(2).double()
    for step in range(4):
        g = torch.tensor([0.3, float(step)])
        weight.grad = g.clone()
        optimizer.step()
        v = 0.9 * v + g.double() + 0.5 * w
        w = w - 0.1 * v
    torch.testing.assert_close(weight.detach().double(), w, rtol=1e-5, atol=1e-6)


def test_gradients_are_clipped_by_value_or_norm():
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(2))])
    for more, expected in (({"clip_value": 0.1}, [0.1, -0.1]), ({"clip_norm": 1.0}, [0.6, -0.8]), ({}, [3.0, -4.0])):
        model[0].grad = torch.tensor([3.0, -4.0])
        clip(model, settings(**more))
        torch.testing.assert_close(model[0].grad, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValidationError, match="exclude each other"):
        settings(clip_value=1, clip_norm=1)


def test_a_schedule_is_a_name_or_a_name_with_its_own_settings():
    assert plain(settings("cosine"))["schedule"] == plain(settings({"name": "cosine"}))["schedule"] == "cosine"
    long = settings({"name": "cosine", "t_max": 100})
    assert plain(long)["schedule"] == {"name": "cosine", "t_max": 100}
    assert Train.model_validate(json.loads(long.model_dump_json())) == long
    assert "accumulate" not in plain(long)
    assert "momentum" not in plain(Optimizer(lr=1))
    with pytest.raises(ValidationError, match="t_max means nothing to onecycle"):
        settings({"name": "onecycle", "t_max": 3})
    with pytest.raises(ValidationError, match="does not divide"):
        settings(accumulate=3)


MORE = [
    ["train.schedule=onecycle", "train.clip_value=0.1", "train.optimizer.name=adam"],
    ["train.optimizer={name: sgd, lr: 1e-3, momentum: 0.9}"],
    ["train.accumulate=4"],
    ["resources.channels_last=true"],
    ["resources.fused=false", "resources.channels_last=true"],
]


@pytest.mark.parametrize("sets", MORE, ids=str)
def test_every_way_to_train_goes_on_bit_for_bit(small, sets, augmented):
    sets = [*sets, *augmented] if "train.accumulate=4" in sets else sets
    alone, stopped = small("alone", sets=sets), small("stopped", sets=sets)
    assert alone.do() == "done"
    assert stopped.do(stop_after=2) == "stopped"
    assert stopped.do() == "done"
    assert stopped.left() == alone.left()


@pytest.mark.parametrize("sets", [["resources.fused=false"], ["resources.channels_last=true"]], ids=str)
def test_what_is_not_science_changes_rounding_only(small, sets):
    one, other = small("one"), small("other", sets=sets)
    assert one.spec("pretrain").identity == other.spec("pretrain").identity
    assert one.do() == other.do() == "done"
    a, b = (r.left()[2][0]["metrics"]["train/loss"] for r in (one, other))
    assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.slow
def test_compiled_parts_compute_the_same(small, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    one, other = small("one"), small("other", sets=["resources.compile=true"])
    assert one.do() == other.do() == "done"
    assert list((tmp_path / "inductor").iterdir()), "something was compiled"
    weights = [next(r.folder("pretrain").checkpoints.glob("step-*")) / "model.safetensors" for r in (one, other)]
    a, b = map(load_file, weights)
    assert a.keys() == b.keys()
    for i in (0, 1):
        metrics = [r.left()[2][i]["metrics"]["train/loss"] for r in (one, other)]
        assert metrics[0] == pytest.approx(metrics[1], rel=1e-3)


def test_a_batch_in_parts_is_refused_beside_batchnorm(small):
    model = "{name: vqvae, channels: 8, code_dim: 4, codebook_size: 16, residual_blocks: 1}"
    runs = small("normed", sets=[f"pretrain:model={model}", "train.accumulate=2"])
    with pytest.raises(Exception, match="cannot be used with BatchNorm"):
        runs.do()
