"""Classification from the deepest code, by cross-entropy on logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from medvq.config.errors import UsageError
from medvq.config.tasks import ClassifyObjective
from medvq.models.draws import Draws
from medvq.models.svqvae import SVQVAE
from medvq.runs import metrics as scores
from medvq.train.pixels import Pixels
from medvq.train.tasks.base import Batch, Evaluated, Task


class Classify(Task):
    """L = CE(logits, y), and on every N-th epoch + MSE(x, x̂) + β · commitment of the deepest level (SPEC §1)."""

    model: SVQVAE
    objective: ClassifyObjective

    def __init__(self, model: nn.Module, objective: Any, pixels: Pixels, classes: Sequence[str]) -> None:
        """Take a model that has a head.

        Raises:
            UsageError: it has none.
        """
        if not hasattr(model, "head"):
            raise UsageError(f"a {type(model).__name__} has no classifier head", hint="use the model svqvae")
        super().__init__(model, objective, pixels, classes)

    def stage(self, epoch: int) -> int:
        """1 in the epochs that reconstruct as well."""
        every = self.objective.reconstruct_every
        return int(every > 0 and (epoch + 1) % every == 0)

    def forward(self, batch: Batch, draws: Draws, epoch: int) -> dict[str, Tensor]:
        """Cross-entropy, and what is added to it in this epoch."""
        found = self.model.encode(batch.x, draws=draws)
        cross_entropy = F.cross_entropy(self._logits(found.code), batch.label)
        losses = {"loss": cross_entropy, "cross_entropy": cross_entropy}
        if self.stage(epoch):
            losses["reconstruction"] = F.mse_loss(self.model.decode(found.code).float(), batch.x)
            losses["loss"] = cross_entropy + losses["reconstruction"] + found.penalties[-1]
        return losses

    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Label, cross-entropy and class probabilities of each image."""
        logits = self._logits(self.model.encode(batch.x).code)
        rows = {
            "label": batch.label,
            "loss": F.cross_entropy(logits, batch.label, reduction="none"),
            "probability": logits.softmax(1),
        }
        return rows, {}

    def metrics(self, found: Evaluated) -> dict[str, float]:
        """Accuracy and its kin over the whole split."""
        label, probability = found.rows["label"], found.rows["probability"]
        return {
            "loss": float(found.rows["loss"].astype("float64").mean()),
            **scores.summary(label, probability.argmax(1), probability),
        }

    def leave(self, folder: Path, found: Evaluated, sample: Batch) -> None:
        """predictions.parquet, from which every metric can be computed again, and the confusion matrix."""
        from medvq.runs.figures import confusion
        from medvq.runs.predictions import NAME, classified, write_predictions

        label, probability = found.rows["label"], found.rows["probability"]
        write_predictions(folder / NAME, classified(found.keys, label, probability, found.classes))
        matrix = scores.confusion(label, probability.argmax(1), len(found.classes))
        confusion(matrix, list(found.classes), folder / "confusion.png")

    def _logits(self, code: Tensor) -> Tensor:
        """(B, classes) float32."""
        logits: Tensor = self.model.head(code)
        return logits.float()
