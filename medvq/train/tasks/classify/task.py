"""Classification from the deepest code, by cross-entropy on logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvq.errors import UsageError
from medvq.metrics import classification as scores
from medvq.models.autoencoder import Autoencoder, Encoded
from medvq.models.draws import Draws
from medvq.runs.artifacts.predictions import classifier_columns
from medvq.train.tasks.base import Batch, Evaluated, Task, TaskContext
from medvq.train.tasks.classify.info import CLASSIFY, ClassifyObjective


class Classify(Task):
    """L = CE(logits, y) + w · MSE(code(x), code(x_m)) + on every N-th epoch MSE(x, x̂) + penalty of the deepest code.

    The model is an autoencoder with a `head` that takes the deepest code, or any module that returns logits of images.
    """

    info = CLASSIFY
    objective: ClassifyObjective

    def __init__(self, model: nn.Module, context: TaskContext) -> None:
        """Take a model that classifies.

        Raises:
            UsageError: an autoencoder without a head, or an objective about codes for a model that has none.
        """
        self.coded = isinstance(model, Autoencoder)
        if isinstance(model, Autoencoder) and not model.has_head:
            raise UsageError(f"a {type(model).__name__} has no classifier head", hint="use the model svqvae")
        if not self.coded and (context.objective.reconstruct_every or context.objective.trains_head_alone):
            raise UsageError(f"a {type(model).__name__} has no codes: reconstruct_every and freeze do not apply")
        super().__init__(model, context)

    @property
    def frozen(self) -> bool:
        """Whether the head alone learns."""
        return self.objective.trains_head_alone

    def train(self, mode: bool = True) -> Self:
        """Training mode, but for what is frozen: its norms and codebooks stay as they are."""
        super().train(mode)
        if self.frozen:
            self._net.eval()
        return self

    def stage(self, epoch: int) -> int:
        """1 in the epochs that reconstruct as well."""
        every = self.objective.reconstruct_every
        return int(every > 0 and (epoch + 1) % every == 0)

    def forward(self, batch: Batch, draws: Draws, epoch: int) -> dict[str, Tensor]:
        """Cross-entropy, and what is added to it in this epoch."""
        if not self.coded:
            cross_entropy = F.cross_entropy(self._inputs_of_loss(self._logits(batch.x)), batch.label)
            return {"loss": cross_entropy, "cross_entropy": cross_entropy}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            found: Encoded = self._net.encode(batch.x, draws=draws)
        logits = self._net.head(found.code).float()
        cross_entropy = F.cross_entropy(self._inputs_of_loss(logits), batch.label)
        losses = {"loss": cross_entropy, "cross_entropy": cross_entropy}
        if self.objective.feature and batch.masked is not None and not self.frozen:
            losses["feature"] = F.mse_loss(found.code.float(), self._masked_code(batch.masked, draws))
            losses["loss"] = losses["loss"] + self.objective.feature * losses["feature"]
        if self.stage(epoch):
            losses["reconstruction"] = F.mse_loss(self._net.decode(found.code).float(), batch.x)
            losses["loss"] = losses["loss"] + losses["reconstruction"] + found.penalty(-1)
        return losses

    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Label, cross-entropy and class probabilities of each image."""
        logits = self._logits(batch.x)
        rows = {
            "label": batch.label,
            "loss": F.cross_entropy(self._inputs_of_loss(logits), batch.label, reduction="none"),
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

    def prediction_columns(self, found: Evaluated) -> dict[str, Any]:
        """Label, prediction, probabilities and loss of every image."""
        shares = classifier_columns(found.rows["probability"], found.classes)
        return {"label": found.rows["label"], **shares, "loss": found.rows["loss"]}

    def write_artifacts(self, folder: Path, found: Evaluated, sample: Batch) -> None:
        """The confusion matrix, and how each class fared."""
        from medvq.runs.artifacts.classified import write_classified

        write_classified(folder, found.rows["label"], found.rows["probability"], found.classes)

    @property
    def _net(self) -> Autoencoder:
        """The model as an autoencoder with a head."""
        return cast("Autoencoder", self.model)

    def _logits(self, x: Tensor) -> Tensor:
        """(B, classes) float32 of images (B, C, H, W).

        Raises:
            UsageError: a user's own network gives something else.
        """
        if self.coded:
            return self._net.head(self._net.encode(x).code).float()
        logits, wanted = self.model(x), (len(x), len(self.classes))
        if tuple(getattr(logits, "shape", ())) != wanted:
            given = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise UsageError(
                f"{type(self.model).__name__} gives {given} for {len(x)} images of {len(self.classes)} classes",
                hint=f"its forward is to return logits (B, classes), here {wanted}",
            )
        return cast("Tensor", logits).float()

    def _inputs_of_loss(self, logits: Tensor) -> Tensor:
        """Logits; as published, their softmax, which keeps the loss above -ln(e / (e + 4)) for 5 classes."""
        return logits.softmax(1) if "softmax_in_head" in self.as_published else logits

    def _masked_code(self, masked: Tensor, draws: Draws) -> Tensor:
        """The deepest code (B, C, h, w) of masked images: no gradient goes through it, no codebook learns from it."""
        with torch.no_grad():
            code: Tensor = self._net.encode(masked, draws=draws).code
        return code.float()
