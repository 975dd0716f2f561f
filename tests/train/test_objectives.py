"""Objectives of tasks: losses, gradients, frozen parts, and switches that reproduce published mistakes."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from medvq.config.resolve import load_study
from medvq.config.study import Optimizer, Train
from medvq.errors import ConfigError, UsageError
from medvq.models.build import build
from medvq.models.draws import Draws
from medvq.models.svqvae.settings import SVQVAESettings
from medvq.runs.state import status_of
from medvq.train.optim import make_optimizer
from medvq.train.pixels import Pixels
from medvq.train.session import Session
from medvq.train.tasks.autoencode.info import AutoencodeObjective
from medvq.train.tasks.autoencode.task import Autoencode
from medvq.train.tasks.base import Batch, TaskContext
from medvq.train.tasks.classify.info import ClassifyObjective
from medvq.train.tasks.classify.task import Classify

CLASSES = ("a", "b", "c", "d", "e")
PIXELS = Pixels([([0.5] * 3, [0.2] * 3)], torch.device("cpu"))


def network(classes=0, as_published=(), **settings):
    torch.manual_seed(0)
    config = SVQVAESettings(
        levels=2, channels=8, residual_blocks=1, residual_channels=4, codebook_size=16, **{"init": "normal", **settings}
    )
    return build(config, input_shape=(3, 32, 32), classes=classes, as_published=as_published)


def batch(seed=0, masked=None, n=4):
    x = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    zeros = torch.zeros(n, dtype=torch.int64)
    return Batch(keys=(), x=x, label=torch.arange(n) % 5, part=zeros, masked=masked)


def context(objective, classes=(), as_published=()):
    return TaskContext(objective=objective, pixels=PIXELS, classes=tuple(classes), as_published=frozenset(as_published))


def classify(as_published=(), **objective):
    model = network(5, as_published)
    return Classify(model, context(ClassifyObjective(**objective), CLASSES, as_published)).train()


def step(task, made, epoch=0, at=0):
    losses = task(made, Draws(0, at), epoch)
    losses["loss"].backward()
    task.model.update_codebooks(Draws(0, at))
    return {name: value.item() for name, value in losses.items()}


def changed(before, model):
    after = model.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_frozen_encoder_keeps_every_weight_buffer_and_mode():
    """Frozen parts are in evaluation mode and get neither gradients nor codebook updates."""
    task = classify(freeze="encoder")
    optimizer = torch.optim.AdamW(task.parameters(), lr=0.1, weight_decay=0.1)
    before = copied(task.model)
    assert not task.model.models.training
    step(task, batch())
    optimizer.step()
    moved = changed(before, task.model)
    assert moved == {name for name in before if name.startswith("classifier.")}


def test_a_frozen_encoder_with_something_to_learn_is_refused():
    with pytest.raises(ValueError, match="frozen"):
        ClassifyObjective(freeze="encoder", reconstruct_every=2)


def test_feature_loss_pulls_the_code_to_that_of_the_masked_image_and_not_back():
    """The feature loss is MSE(code(x), code(x_m)); the masked branch gets no gradient and no codebook updates."""
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(9)).requires_grad_()
    task = classify()
    plain = step(task, batch(), at=3)
    counts = {n: q.counts.clone() for n, q in task.model.quantizers().items()}
    task = classify()
    found = step(task, batch(masked=noise), at=3)
    with torch.no_grad():
        codes = [classify().model.eval().encode(x).code for x in (batch().x, noise)]
    assert found["feature"] == pytest.approx(F.mse_loss(*codes).item(), rel=1e-4)
    assert found["loss"] == pytest.approx(plain["loss"] + found["feature"], rel=1e-5)
    assert noise.grad is None
    for name, quantizer in task.model.quantizers().items():
        assert torch.equal(quantizer.counts, counts[name]), "the masked branch is not counted"
    assert "feature" not in step(classify(feature=0.0), batch(masked=noise))


def test_logits_go_into_cross_entropy_and_as_published_their_softmax():
    """With a second softmax, the loss for 5 classes cannot fall below −ln(e / (e + 4))."""
    floor = -math.log(math.e / (math.e + 4))
    for switches, lowest in (((), 0.0), (("softmax_in_head",), floor)):
        task = classify(switches)
        task.model.head = lambda code: 100 * F.one_hot(torch.arange(4) % 5, 5).float() + 0 * code.sum()
        found = task(batch(), Draws(0, 0), 0)["loss"].item()
        assert found == pytest.approx(lowest, abs=1e-4)
        rows, _ = task.eval().measure(batch())
        assert rows["loss"].mean().item() == pytest.approx(lowest, abs=1e-4)
        assert rows["probability"].sum(1).allclose(torch.ones(4)), "what is reported is a softmax once"


@pytest.mark.parametrize("way", ["recon_all", "recon_level"])
def test_recon_level_gives_back_its_own_input_and_no_gradient_reaches_below(way):
    """With `recon_level`, the target of level 1 is the code of level 0, detached."""
    task = Autoencode(network(), context(AutoencodeObjective(reconstruct=way))).train()
    losses = task(batch(), Draws(0, 0), 0)
    losses["reconstruction/level1"].backward()
    decoder = [p.grad for p in task.model.models[0].dec.parameters()]
    assert all(g is None for g in decoder) == (way == "recon_level")
    rows, _ = task.eval().measure(batch())
    with torch.no_grad():
        model = task.model
        back = model.decode(model.encode(batch().x).code)
        truth = PIXELS.unit(batch().x, batch().part)
        mse = (PIXELS.unit(back, batch().part) - truth).square().flatten(1).mean(1)
    assert rows["mse"].allclose(mse, atol=1e-6), "what is reported is the image either way"


def test_ema_cold_start_throws_unused_codes_away():
    """If counts start at 0, an unused code is about 1e5 times too long after one step."""
    longest = {}
    for switches in ((), ("ema_cold_start",)):
        task = Autoencode(
            network(as_published=switches, revive=0.0), context(AutoencodeObjective(), as_published=switches)
        )
        step(task.train(), batch())
        book = task.model.quantizers()["level0/top"].codebook
        longest["ema_cold_start" in switches] = book.norm(dim=1).max().item()
    assert longest[False] < 10
    assert longest[True] > 1e4


def test_ema_cold_start_needs_codes_that_start_at_random():
    with pytest.raises(UsageError, match="random"):
        network(as_published=["ema_cold_start"], init="kmeans")


def test_codebook_update_per_encode_counts_every_pass():
    """With the switch, level 0 is updated once per active level, and by the masked branch too."""

    def updates(made, passes):
        seen = []
        quantizer = made.model.quantizers()["level0/top"]
        learn, quantizer._update_codes = quantizer._update_codes, lambda *t: (seen.append(1), learn(*t))
        passes(made)
        return len(seen)

    switch = ("codebook_update_per_encode",)

    def pretraining(switches):
        model = network(as_published=switches, revive=0.0)
        return Autoencode(model, context(AutoencodeObjective(), as_published=switches)).train()

    assert updates(pretraining(()), lambda t: step(t, batch())) == 1
    assert updates(pretraining(switch), lambda t: step(t, batch())) == 2
    twin = batch(masked=batch(1).x)
    assert updates(classify(), lambda t: step(t, twin)) == 1
    assert updates(classify(switch), lambda t: step(t, twin)) == 2


def test_weight_decay_does_not_touch_a_codebook_that_is_learnt_by_gradient():
    torch.manual_seed(0)
    config = SVQVAESettings(levels=1, channels=8, codebook_size=16, quantizer={"name": "gradient"}, init="normal")
    model = build(config, input_shape=(3, 32, 32))
    optimizer = make_optimizer(model, Train(epochs=1, batch_size=4, optimizer=Optimizer(lr=0.1, weight_decay=0.5)))
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))
    before = copied(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    books = {n for n in before if n.endswith("codebook")}
    assert len(books) == 2
    assert not changed(before, model) & books
    assert changed(before, model) >= {n for n in before if n.endswith("0.weight")}


WATCHING = """\
study: small
data: {cells: {dataset: smear, size: 32}}
defaults:
  model: {name: svqvae, levels: 1, channels: 8, residual_blocks: 1, residual_channels: 4, codebook_size: 16, head: [8]}
  data: {use: cells}
  train: {epochs: 3, batch_size: 24, optimizer: {lr: 1e-3}}
jobs:
  blind: {task: classify}
  watched: {task: classify, train: {watch_test: true}}
  wrong: {task: classify, as_published: [best_on_test]}
tables:
  t: {rows: job, columns: metrics, values: [test/accuracy, test/accuracy_last10, test/accuracy_best_on_test]}
"""


def test_watching_test_chooses_nothing_and_best_on_test_is_marked(small):
    runs = small("runs", WATCHING)
    for job in ("blind", "watched", "wrong"):
        assert runs.do(job) == "done"
    blind, watched, wrong = (status_of(runs.folder(j)).metrics for j in ("blind", "watched", "wrong"))
    weights = [runs.left(j)[1]["best"] for j in ("blind", "watched", "wrong")]
    assert weights[0] == weights[1] == weights[2]
    assert {k: watched[k] for k in blind} == blind
    assert "test/accuracy_last10" in watched
    assert not any("best_on_test" in name for name in watched)
    assert wrong["test/accuracy_best_on_test"] >= wrong["test/accuracy_last"]


def test_validation_picks_the_epoch_where_test_would_pick_another(small, monkeypatch):
    """The best epoch is chosen on validation, even if another one is best on test."""
    measure = Session.metrics
    of_epoch = [{"val/accuracy": v, "test/accuracy": t} for v, t in ((0.1, 0.9), (0.8, 0.2), (0.3, 0.95))]

    def told(session, found):
        metrics = measure(session, found)
        metrics.update({k: v for k, v in of_epoch[min(session.position.epoch, 2)].items() if k in metrics})
        return metrics

    monkeypatch.setattr(Session, "metrics", told)
    runs = small("runs", WATCHING)
    for job in ("blind", "watched", "wrong"):
        assert runs.do(job) == "done"
        assert json.loads(runs.folder(job).result.read_text())["epoch"] == 2
    assert status_of(runs.folder("wrong")).metrics["test/accuracy_best_on_test"] == 0.95


def test_a_misspelt_watched_metric_is_an_error(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(WATCHING.replace("accuracy_last10,", "accuracy_last11,"))
    with pytest.raises(ConfigError, match="accuracy_last11"):
        load_study(path)


@pytest.mark.parametrize("net", [torch.nn.Linear(3 * 32 * 32, 6), torch.nn.Linear(3 * 32 * 32, 1)])
def test_a_users_network_with_other_outputs_than_classes_is_told_before_it_trains(net):
    task = Classify(torch.nn.Sequential(torch.nn.Flatten(), net), context(ClassifyObjective(), CLASSES))
    with pytest.raises(UsageError, match="for 4 images and 5 classes") as e:
        task(batch(), Draws(0, 0), 0)
    assert "(4, 5)" in e.value.hint
