"""Checkpoints: what is read is what was written, bit for bit, and damage is found."""

import json
import os

import pytest
import torch

from medvq.errors import DataError, NotFoundError
from medvq.runs.owner import LostOwnershipError, claim
from medvq.runs.process import Process
from medvq.train import checkpoint
from medvq.train.checkpoint import Position


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x):
        return self.used(x)


def trained(steps, model=None, optimizer=None):
    model = model or Net()
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=0.1)
    for step in range(steps):
        model(torch.full((4, 3), 1.0 + step)).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model, optimizer


@pytest.fixture
def owner(tmp_path):
    return claim(tmp_path / "owner", Process.current())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def save(folder, owner, step, model, optimizer):
    return checkpoint.save(folder, owner, Position(step=step), model, optimizer, {})


def test_training_goes_on_bit_for_bit(folder, owner):
    torch.manual_seed(0)
    model, optimizer = trained(3)
    save(folder, owner, 3, model, optimizer)
    torch.manual_seed(1)
    other = Net()
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    path = checkpoint.newest(folder)
    checkpoint.load_model(path, other)
    checkpoint.load_optimizer(path, other, other_optimizer)
    assert {id(p) for p in other_optimizer.state} == {id(other.used.weight), id(other.used.bias)}
    for m, o in ((model, optimizer), (other, other_optimizer)):
        trained(2, m, o)
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "sums"])
def test_a_damaged_checkpoint_is_passed_over(folder, owner, damage, caplog):
    model, optimizer = trained(1)
    save(folder, owner, 1, model, optimizer)
    last = folder / save(folder, owner, 2, model, optimizer)
    file = last / ("sums.json" if damage == "sums" else "model.safetensors")
    data = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "flip":
        data[-1] ^= 1
        file.write_bytes(data)
    else:
        file.write_bytes(data[: len(data) // 2])
    assert checkpoint.newest(folder).name == "step-00000001"
    assert "damaged" in caplog.text
    with pytest.raises(DataError):
        checkpoint.find(folder, "last")


def test_the_last_two_and_the_best_are_kept(folder, owner):
    model, optimizer = trained(1)
    for step in range(1, 6):
        save(folder, owner, step, model, optimizer)
        if step in (2, 3):
            checkpoint.save_best(folder, owner, Position(step=step), model, {})
    assert sorted(p.name for p in folder.iterdir()) == [
        "best-00000003",
        "latest.json",
        "step-00000004",
        "step-00000005",
    ]
    assert checkpoint.find(folder, "best").name == "best-00000003"


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_without_the_best_weights_a_run_goes_on_from_before_them(folder, owner, damage, caplog):
    model, optimizer = trained(1)
    save(folder, owner, 1, model, optimizer)
    knows = Position(step=2, best={"epoch": 1, "value": 0.5})
    best = folder / checkpoint.save_best(folder, owner, knows, model, {})
    checkpoint.save(folder, owner, knows, model, optimizer, {})
    assert checkpoint.newest(folder).name == "step-00000002"
    (best / "model.safetensors").unlink()
    if damage == "missing":
        (best / "state.json").unlink()
        (best / "sums.json").unlink()
        best.rmdir()
    assert checkpoint.newest(folder).name == "step-00000001"
    assert "best" in caplog.text
    checkpoint.save_best(folder, owner, Position(step=3), model, {})
    assert checkpoint.newest(folder).name == "step-00000002", "what came after it is made again"


def test_nothing_is_written_after_the_run_was_taken_over(folder, owner, tmp_path):
    model, optimizer = trained(1)
    save(folder, owner, 1, model, optimizer)
    claim(tmp_path / "owner", Process.current())
    with pytest.raises(LostOwnershipError):
        save(folder, owner, 2, model, optimizer)
    assert checkpoint.newest(folder).name == "step-00000001"


def test_an_unfinished_write_is_no_checkpoint(folder, owner):
    model, optimizer = trained(1)
    save(folder, owner, 1, model, optimizer)
    (folder / ".step-00000009.1.tmp").mkdir()
    assert checkpoint.newest(folder).name == "step-00000001"
    save(folder, owner, 2, model, optimizer)
    assert not list(folder.glob(".*"))


def test_no_checkpoint_is_not_found(folder):
    with pytest.raises(NotFoundError):
        checkpoint.find(folder, "best")
    assert checkpoint.newest(folder) is None


def test_it_holds_nothing_but_safetensors_and_json(folder, owner):
    model, optimizer = trained(1)
    path = folder / save(folder, owner, 1, model, optimizer)
    assert {p.suffix for p in path.iterdir()} == {".safetensors", ".json"}
    json.loads((path / "state.json").read_text())


def test_weights_get_the_mode_of_any_new_file(folder, owner):
    model, optimizer = trained(1)
    before = os.umask(0o002)
    try:
        save(folder, owner, 1, model, optimizer)
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in checkpoint.newest(folder).iterdir()}
    assert set(modes.values()) == {0o664}, modes
