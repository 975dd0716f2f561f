"""The brain slice study: parameter counts, shapes and texts, before there are any data."""

import pytest

from medvq.config.locate import known
from medvq.config.resolve import load_study
from medvq.config.yamlfile import read_yaml
from medvq.launch.describe import describe
from medvq.launch.start import Request


def facts(study, tmp_path):
    return describe(Request(study=study, data={}, datasets=tmp_path, runs=tmp_path / "runs"), None)["jobs"]


def test_both_published_networks(tmp_path):
    """1,717,121 with residual blocks, as in the author's code; 1,058,689 without, as printed."""
    found = facts("brain-vqvae", tmp_path)
    totals = {job: found[job]["parameters"]["total"] for job in ("residual", "diagram")}
    assert totals == {"residual": 1717121, "diagram": 1058689}
    shapes = {layer["name"]: layer["shape"] for layer in found["residual"]["layers"]}
    assert shapes["quantizer"] == [128, 32, 32]


@pytest.mark.parametrize("study", sorted(known("jobs")))
def test_total_and_what_is_not_counted_are_the_published_number(study, tmp_path):
    for job in facts(study, tmp_path).values():
        p = job["parameters"]
        assert p["published"] in (None, p["total"] + sum(p["not_counted"].values()))


def test_the_modality_is_in_every_name(tmp_path):
    """The report's slices were label maps, not MRI; data are named by dataset and modality."""
    study = load_study("brain-vqvae")
    assert {name.rpartition("-")[2] for name in study.data} == {"mri", "labels"}
    assert study.data["oasis-labels"].dataset == "oasis-seg"
    assert study.data["adni-mri"].size == (240, 256)
    assert all(source.channels == 1 for source in study.data.values())


def test_no_published_number_is_compared_with_what_it_does_not_measure():
    """0.849 is of one training image per batch; only the loss is of the same images as ours."""
    tables = load_study("brain-vqvae").tables
    same = {name for name, t in tables.items() for p in t.published if p.dataset in ("oasis", "oasis-seg", "adni")}
    assert same == {"reconstruction_loss"}


def test_the_grid_is_what_the_report_tried():
    values = {(p.model.codebook_size, p.model.beta) for p in load_study("brain-vqvae").jobs["grid"]}
    assert len(values) == 20
    assert {min(values), max(values)} == {(32, 0.25), (512, 1.5)}


def test_published_numbers_are_those_that_were_collected(real):
    rows = read_yaml(real.parent / "seeds" / "published.yaml").data["results"]
    known = {(r["metric"], r["value"]) for r in rows if r["system"] == "S4_oasis_vqvae"}
    for name, table in load_study("brain-vqvae").tables.items():
        metric = "reconstruction_loss" if name == "reconstruction_loss" else "ssim_mean"
        assert all((metric, p.value) in known and p.source and p.selection for p in table.published)
