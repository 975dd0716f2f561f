"""A study that is run once without disturbance, for comparison."""

import json
from types import SimpleNamespace

import pytest

ARGS = ("run", "quickstart", "--smoke", "--set", "train.epochs=4", "--set", "resources.checkpoint_every=1 s")
NOT_SCIENCE = ("time", "attempt")


def left(runs):
    """Everything that a study writes except times and attempts: results, weights, epochs, predictions."""
    found = {}
    for result in sorted(runs.glob("*/*/result.json")):
        folder = result.parent
        latest = json.loads((folder / "checkpoints/latest.json").read_text())
        epochs = {}
        for line in (folder / "events.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "epoch":
                epochs[event["epoch"]] = {k: v for k, v in event.items() if k not in NOT_SCIENCE}
        found[folder.name] = (
            result.read_text(),
            {w: (folder / "checkpoints" / n / "model.safetensors").read_bytes() for w, n in latest.items()},
            epochs,
            (folder / "artifacts/predictions.parquet").read_bytes(),
        )
    return found


@pytest.fixture(scope="session")
def study(tmp_path_factory, cli_in):
    """A study, a function that reads what it wrote, and what two undisturbed Ray Train workers write."""
    cli = cli_in(tmp_path_factory.mktemp("alone"))
    cli(*ARGS, "--workers", 2, timeout=600)
    return SimpleNamespace(args=ARGS, left=left, undisturbed=left(cli.folder / "runs"))
