"""Open trained models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medvq.errors import UsageError, suggest
from medvq.runs.find import find_run

if TYPE_CHECKING:
    import torch

    from medvq.train.trained import TrainedRun

CHECKPOINTS = ("best", "last")


def load(
    run: str | os.PathLike[str],
    *,
    checkpoint: Literal["best", "last"] = "best",
    runs: str | os.PathLike[str] = "runs",
    device: torch.device | str = "cpu",
) -> TrainedRun:
    """Open the model of a trained run, with what is needed to use it.

    Args:
        run: the run's folder, or its name in `runs`; a unique beginning of the name is enough, and `STUDY/NAME` looks
            in one study only.
        checkpoint: `best` is the epoch with the best validation metric, `last` the end of training.
        runs: folder of all runs.
        device: where the weights go.

    Returns:
        The trained run. `model` is frozen and in evaluation mode; `classes`, `settings`, `input_shape`, `metrics` and
        `spec` describe it. `prepare` turns images (B, H, W, C) uint8 into what the model takes, `unit` turns its images
        back to [0, 1].

    Raises:
        NotFoundError: there is no such run, or it has no such checkpoint.
        UsageError: the name could mean several runs.
        DataError: the checkpoint is damaged, or the source of your own model changed since the run.

    Example:
        >>> import medvq, torch
        >>> trained = medvq.load("pretrain")
        >>> trained.input_shape, round(trained.metrics["test/psnr"]) > 5
        ((3, 32, 32), True)
        >>> with medvq.Loader.open("datasets/smear", split="test", batch_size=4) as loader:
        ...     batch = next(loader.evaluate())
        >>> x = trained.normalize(batch.image)
        >>> images = trained.unit(trained.model.reconstruct(x))
        >>> images.shape
        torch.Size([4, 3, 32, 32])
        >>> torch.equal(x, trained.prepare(batch.image.permute(0, 2, 3, 1).numpy()))
        True
    """
    if checkpoint not in CHECKPOINTS:
        raise UsageError(f"unknown checkpoint {checkpoint!r}", hint=suggest(checkpoint, CHECKPOINTS))
    from medvq.train.trained import open_trained

    return open_trained(find_run(os.fspath(run), Path(runs)), checkpoint, device)
