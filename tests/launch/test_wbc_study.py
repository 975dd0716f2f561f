"""The white blood cell study: the published protocol (jobs/PUBLISHED.md), with controls beside it."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from medvq.config.resolve import load_study
from medvq.launch.describe import describe
from medvq.launch.start import Request
from medvq.models.build import build
from medvq.models.draws import Draws
from medvq.models.svqvae.settings import SVQVAESettings
from medvq.train.optim import lr_at
from medvq.train.pixels import Pixels
from medvq.train.tasks.autoencode.task import Autoencode
from medvq.train.tasks.base import Batch, TaskContext
from medvq.train.tasks.classify.task import Classify

PIXELS = Pixels([([0.5] * 3, [0.2] * 3)], torch.device("cpu"))
CLASSES = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")


@pytest.fixture(scope="module")
def study():
    return load_study("svqvae-wbc")


def small(classes=0):
    """The study's three levels and K × D, but narrow and on 256 px, to be fast."""
    torch.manual_seed(0)
    config = SVQVAESettings(channels=8, residual_blocks=1, residual_channels=4, codebook_size=16, init="normal")
    return build(config, input_shape=(3, 256, 256), classes=classes)


def batch(n=2):
    x = torch.randn(n, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    return Batch(keys=(), x=x, label=torch.arange(n), part=torch.zeros(n, dtype=torch.int64))


def test_pretraining_is_staged_as_published(study):
    """level = min((epoch − 1) div 5, 2), epochs from 1; an active level adds image error + β · code error."""
    (point,) = study.jobs["pretrain"]
    task = Autoencode(small(), TaskContext(objective=point.objective, pixels=PIXELS)).train()
    assert [task.stage(epoch - 1) - 1 for epoch in (1, 5, 6, 10, 11, 50)] == [0, 0, 1, 1, 2, 2]
    for epoch, levels in ((0, 1), (5, 2), (10, 3)):
        made = batch()
        losses = task(made, Draws(0, epoch), epoch)
        active = {name for name in losses if name.startswith("reconstruction")}
        assert active == {f"reconstruction/level{i}" for i in range(levels)}
        with torch.no_grad():
            found = task.model(made.x, levels=levels)
        assert all(image.shape == made.x.shape for image in found.images), "recon_all decodes every level to pixels"
        expected = sum(
            F.mse_loss(found.images[i], made.x) + 0.25 * found.losses[f"commitment/level{i}"] for i in range(levels)
        )
        assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
        losses["loss"].backward()
        trained = {name.split(".")[1] for name, p in task.model.named_parameters() if p.grad is not None}
        assert trained == {str(i) for i in range(levels)}
        task.zero_grad(set_to_none=True)


def test_recon_level_is_one_setting_away():
    (point,) = load_study("svqvae-wbc", sets=["pretrain:objective.reconstruct=recon_level"]).jobs["pretrain"]
    assert Autoencode(small(), TaskContext(objective=point.objective, pixels=PIXELS)).target == "inputs"


@pytest.mark.parametrize(
    ("sets", "last"), [((), 0.75e-4), (("pretrain:train.schedule={name: cosine, t_max: 50}",), 0.0)]
)
def test_both_readings_of_the_cosine(sets, last):
    (point,) = load_study("svqvae-wbc", sets=sets).jobs["pretrain"]
    train = point.config.train
    assert (train.epochs, train.batch_size) == (50, 24)
    assert lr_at(train, 0, 105).lr == pytest.approx(1.5e-4)
    assert lr_at(train, 50 * 105, 105).lr == pytest.approx(last, abs=1e-9)
    half = 25 * math.pi / train.schedule.t_max
    assert lr_at(train, 25 * 105, 105).lr == pytest.approx(1.5e-4 * (1 + math.cos(half)) / 2)


def test_pretraining_reads_the_published_mixture(study):
    data = study.data["unlabelled"]
    assert {name: (i.weight, i.crop, i.resize) for name, i in data.mix.items()} == {
        "prcc": (4, (512, 512), None),
        "cam16": (1, None, (512, 512)),
    }
    assert (data.draws, data.splits) == (2500, "all")
    (point,) = study.jobs["pretrain"]
    assert (point.config.data.augment.rotate, point.config.data.augment.fill) == (180, "black")


def test_fine_tuning_reconstructs_on_every_second_epoch(study):
    """L_cls every step; on epochs 2, 4, … also MSE(x, X̂_2) + 0.25·lat_2."""
    task = Classify(
        small(5), TaskContext(objective=study.jobs["finetune"][0].objective, pixels=PIXELS, classes=tuple(CLASSES))
    ).train()
    assert [task.stage(epoch - 1) for epoch in (1, 2, 3, 4, 99, 100)] == [0, 1, 0, 1, 0, 1]
    for epoch in (0, 1):
        made = batch()
        losses = task(made, Draws(0, epoch), epoch)
        with torch.no_grad():
            found = task.model.encode(made.x)
            expected = F.cross_entropy(task.model.head(found.code), made.label)
            if epoch == 1:
                image = task.model.decode(found.code)
                expected = expected + F.mse_loss(image, made.x) + 0.25 * found.losses["commitment/level2"]
        assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("job", ["finetune", "draws", "scratch", "frozen"])
def test_jobs_differ_in_what_they_are_named_after_and_nothing_else(study, job):
    for point in study.jobs[job]:
        config = point.config
        train = config.train
        assert (train.epochs, train.batch_size, train.schedule.name) == (100, 24, "constant")
        optimizer = train.optimizer
        assert (optimizer.name, optimizer.lr, optimizer.weight_decay, optimizer.betas) == (
            "adamw",
            1.5e-4,
            0.05,
            (0.9, 0.95),
        )
        assert config.data.balance == "class"
        assert (config.data.augment.rotate, config.data.augment.fill, config.data.augment.flip) == (180, "mean", False)
        assert bool(config.needs) == (job != "scratch")
        assert (point.objective.freeze == "encoder") == (job == "frozen")
        assert all(need.checkpoint == "last" for need in config.needs.values())
    values = {(p.config.data.subset, p.config.data.masks) for p in study.jobs[job]}
    masks = (False, True) if job in ("finetune", "draws") else (False,)
    subsets = (10, 1) if job == "draws" else (100, 50, 10, 1)
    assert values == {(subset, mask) for subset in subsets for mask in masks}
    over, times = ("data.draw", range(5)) if job == "draws" else ("train.seed", range(3))
    assert Counter(p.values[over] for p in study.jobs[job]) == dict.fromkeys(times, len(values))


def test_described_as_published_and_a_frozen_job_trains_the_head_alone(tmp_path):
    facts = describe(Request(study="svqvae-wbc", data={}, datasets=tmp_path, runs=tmp_path / "runs"), None)["jobs"]
    found = {name: (job["parameters"]["total"], job["parameters"]["trainable"]) for name, job in facts.items()}
    assert found == {
        "pretrain": (3_054_644 - 164_741, 3_054_644 - 164_741),
        "finetune": (3_054_644, 3_054_644),
        "draws": (3_054_644, 3_054_644),
        "scratch": (3_054_644, 3_054_644),
        "frozen": (3_054_644, 164_741),
    }
