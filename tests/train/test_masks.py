"""Masks: noise outside masks, both correct and as published, and SSIM inside masks."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from medvq.config.augment import Augment
from medvq.config.locate import find
from medvq.config.recipe import load_recipe
from medvq.config.resolve import load_study
from medvq.errors import UsageError
from medvq.launch.data import find_data
from medvq.launch.plan import make_plan, record
from medvq.metrics.similarity import ssim
from medvq.models.build import build
from medvq.models.draws import Draws
from medvq.models.svqvae.settings import SVQVAESettings
from medvq.runs.artifacts.predictions import NAME, read_predictions
from medvq.runs.process import Process
from medvq.runs.state import status_of
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.load.loader import Loader
from medvq.shards.pack.pack import pack
from medvq.shards.synth.smear import smear as draw
from medvq.train import batch_builder as feed_module
from medvq.train.augmentation.geometric import CORNER, augment, masked, masked_as_published
from medvq.train.pixels import Pixels
from medvq.train.run import WorkItem, run_one
from medvq.train.setup import pixels_of
from medvq.train.view import held_out_view, parts_of
from medvq.train.world import World

PIXELS = Pixels([([0.5] * 3, [0.2] * 3)], torch.device("cpu"))
STUDY = """\
study: small
data: {cells: {dataset: smear, size: 32}}
defaults:
  model: {name: svqvae, levels: 1, channels: 8, residual_blocks: 1, codebook_size: 16, head: [8]}
  train: {epochs: 1, batch_size: 24, optimizer: {lr: 1e-3}}
jobs:
"""
TRAINED = STUDY + "  masked: {task: classify, data: {use: cells, masks: true, augment: {rotate: 180}}}\n"
MEASURED = STUDY + "  inside: {task: autoencode, data: {use: cells}, objective: {foreground: mask}}\n"


def test_mask_clip_normalized_changes_images_that_have_no_mask():
    """The published code clips normalised pixels to [0, 1] (jobs/PUBLISHED.md, svqvae-wbc); the default does not."""
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    keep = torch.full((4, 1, 32, 32), 255, dtype=torch.uint8)
    mean, std = PIXELS.of(torch.zeros(4, dtype=torch.int64))
    assert torch.equal(masked(x, keep, Draws(0, 0)), x)
    assert torch.equal(masked_as_published(x, keep, Draws(0, 0), mean, std), x.clamp(0, 1))


def test_mask_clip_normalized_is_what_the_published_code_did(torchvision):
    """The published code rotates the inverted mask with the image's fill, the mean colour, and inverts it back."""
    mean, std = (torch.tensor(v)[None, :, None, None] for v in ([0.7048, 0.5392, 0.5885], [0.1626, 0.1902, 0.0974]))
    settings, draws, kind = Augment(rotate=180), Draws(0, 3), torchvision.InterpolationMode.NEAREST
    x = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    keep = torch.zeros(6, 1, 32, 32, dtype=torch.uint8)
    keep[:3, :, 8:24, 4:30] = 255
    keep[3:] = 255
    angles = (draws.uniform((6,), "rotate") * 2 - 1) * 180
    turned = [
        torchvision.rotate(1 - m.expand(3, 32, 32) / 255, a, kind, fill=mean.flatten().tolist())
        for m, a in zip(keep, angles.tolist(), strict=True)
    ]
    m = 1 - torch.stack(turned)
    corner = m[:, :, 0, 0]
    assert torch.isclose(corner, 1 - mean[:, :, 0, 0], atol=1e-6).all(1).any()  # 0.30, 0.46, 0.41
    y, marked = augment(x, keep, settings, draws, corner=CORNER)
    noise = draws.normal(x.shape, "mask noise") * std + mean
    assert torch.allclose(masked_as_published(y, marked, draws, mean, std), (m * y + (1 - m) * noise).clamp(0, 1))


def test_mask_clip_normalized_reaches_training(small):
    """In a run from a study, corners of rotated masks are as published only with the switch."""
    seen = {}
    for switches in ("[]", "[mask_clip_normalized]"):
        runs = small(f"runs{len(switches)}", TRAINED, sets=[f"masked:as_published={switches}"])
        real = feed_module.augment

        def spy(*args, real=real, switches=switches):
            x, keep = real(*args)
            seen.setdefault(switches, set()).update(keep.unique().tolist())
            return x, keep

        feed_module.augment = spy
        try:
            assert runs.do("masked") == "done"
        finally:
            feed_module.augment = real
    assert CORNER not in seen["[]"]
    assert seen["[mask_clip_normalized]"] == {0, CORNER, 255}


@pytest.fixture
def cells(tmp_path):
    """Return a function that packs a smear; with `held_out`, all but one held-out image per class have masks."""

    def _cells(held_out):
        tree = tmp_path / "tree"
        draw(tree, samples=60, size=32)
        y, x = np.mgrid[:32, :32]
        disc = Image.fromarray(np.uint8(255 * ((x - 15) ** 2 + (y - 17) ** 2 < 80)))
        images = [path for split in ("val", "test") for path in sorted((tree / split / "data").rglob("*.*"))]
        for image in images if held_out else ():
            mask = tree / image.relative_to(tree).parts[0] / "mask" / image.parent.name / f"{image.stem}.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            if image != sorted(image.parent.iterdir())[0]:
                disc.save(mask)
        pack(tree, tmp_path / "cells", load_recipe(find("shards", "smear")), processes=1)
        return tmp_path / "cells"

    return _cells


def planned(tmp_path, data):
    (tmp_path / "study.yaml").write_text(MEASURED)
    study = load_study(tmp_path / "study.yaml")
    found = find_data(study, ["inside"], given={"cells": str(data)}, datasets=tmp_path,
                      study_folder=tmp_path / "runs", make=None)  # fmt: skip
    return study, found


def test_ssim_inside_the_masks_of_held_out_images(tmp_path, cells):
    """With `foreground: mask`, the metric equals SSIM inside the masks, recomputed from the weights."""
    study, found = planned(tmp_path, cells(held_out=True))
    plan = make_plan(study, found, runs=tmp_path / "runs")
    record(plan)
    (spec,) = plan.runs
    folder = plan.folder_of(spec)
    item = WorkItem(spec=spec.model_dump(mode="json"), folder=str(folder.path), holder=Process.current().record())
    assert run_one(item, World(), lambda: False) == "done"
    datasets = {name: Dataset.open(ref.path) for name, ref in spec.datasets.items()}
    (read,) = Loader(held_out_view(spec, datasets, "test", masks=True), 1000, 0).evaluate()
    model = build(SVQVAESettings(**spec.model), input_shape=(3, 32, 32))
    best = json.loads((folder.checkpoints / "latest.json").read_text())["best"]
    model.load_state_dict(load_file(folder.checkpoints / best / "model.safetensors"))
    pixels = pixels_of(spec, parts_of(spec, datasets), torch.device("cpu"))
    x = pixels.normalize(read.image, read.part)
    with torch.no_grad():
        back = pixels.unit(model.eval()(x).images[-1], read.part)
    inside = read.mask >= 128
    expected = ssim(pixels.unit(x, read.part), back, 1.0, inside)
    kept = read_predictions(folder.artifacts / NAME)
    by_key = dict(zip(kept["key"], kept["ssim_foreground"], strict=True))
    measured = torch.tensor([by_key[key] for key in read.keys])
    has_mask = ~inside.flatten(1).all(1)
    assert 3 < has_mask.sum() < len(has_mask)
    assert torch.allclose(measured[has_mask], expected[has_mask], atol=1e-5)
    assert measured[~has_mask].isnan().all()
    assert status_of(folder).metrics["test/ssim_foreground"] == pytest.approx(measured[has_mask].mean().item())


def test_measuring_inside_masks_that_are_not_there_is_an_error(tmp_path, cells):
    with pytest.raises(UsageError, match="no held-out image has a mask"):
        make_plan(*planned(tmp_path, cells(held_out=False)), runs=tmp_path / "runs")
