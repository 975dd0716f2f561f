"""All ranks of a run leave together when another attempt takes the run over."""

import pytest


@pytest.mark.parametrize("every", ["0.001 s", "1 h"], ids=["noticed at a checkpoint", "noticed at the end of an epoch"])
def test_all_ranks_leave_when_the_run_is_taken_over(small, every):
    runs = small("runs", sets=[f"resources.checkpoint_every={every}"])
    assert runs.on_ranks(2, take_over_after=2, patience=60) == ["busy", "busy"]
    assert not runs.folder("pretrain").result.exists()
